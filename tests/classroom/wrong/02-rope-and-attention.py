"""Typical wrong answers to problem set 2: what is changed in the right one, which test stops, and what it must say."""

WRONG = [
    # rotate
    {
        "task": "rotate",
        "name": "clockwise",
        "change": [("angle = m *", "angle = -m *")],
        "fails": "test-rotate",
        "says": "counter-clockwise",
    },
    {
        "task": "rotate",
        "name": "half-split pairs",
        "code": """
def rotate_part(x, positions, n_turned, base=10_000.0):
    out, half = x.clone(), n_turned // 2
    for row, m in enumerate(positions):
        for j in range(half):
            angle = m * base ** (-2 * j / n_turned)
            a, b = x[row, j], x[row, j + half]
            out[row, j] = a * math.cos(angle) - b * math.sin(angle)
            out[row, j + half] = a * math.sin(angle) + b * math.cos(angle)
    return out
""",
        "fails": "test-rotate",
        "says": "halves would mix",
    },
    {
        "task": "rotate",
        "name": "speeds of the whole head, like the library",
        "change": [("(-2 * j / n_turned)", "(-2 * j / x.shape[1])")],
        "fails": "test-rotate-more",
        "says": "n_turned, not head_dim",
    },
    {
        "task": "rotate",
        "name": "everything is turned",
        "change": [("range(n_turned // 2)", "range(x.shape[1] // 2)")],
        "fails": "test-rotate",
        "says": "the rest has no position",
    },
    {
        "task": "rotate",
        "name": "speeds one step of two too slow",
        "change": [("-2 * j / n_turned", "-j / n_turned")],
        "fails": "test-rotate-more",
        "says": "speed of pair j",
    },
    {
        "task": "rotate",
        "name": "row numbers in place of positions",
        "change": [("angle = m *", "angle = row *")],
        "fails": "test-rotate",
        "says": "at position 1",
    },
    {
        "task": "rotate",
        "name": "in place",
        "change": [
            ("out = x.clone()", "out = x"),
            ("a, b = x[row, 2 * j], x[row, 2 * j + 1]", "a, b = x[row, 2 * j].item(), x[row, 2 * j + 1].item()"),
        ],
        "fails": "test-rotate-more",
        "says": "in place",
    },
    # score
    {
        "task": "score",
        "name": "not divided by the root of d",
        "change": [(" / math.sqrt(d)", "")],
        "fails": "test-score",
        "says": "divided by the square root",
    },
    {
        "task": "score",
        "name": "divided by d",
        "change": [("/ math.sqrt(d)", "/ d")],
        "fails": "test-score",
        "says": "divided by the square root",
    },
    {
        "task": "score",
        "name": "the query is conjugated",
        "change": [("zq * zk.conj()", "zq.conj() * zk")],
        "fails": "test-score-more",
        "says": "distance 1 scores +sin 1",
    },
    {
        "task": "score",
        "name": "nothing is conjugated",
        "change": [("zk.conj()", "zk")],
        "fails": "test-score",
        "says": "plain dot product",
    },
    {
        "task": "score",
        "name": "absolute distances",
        "change": [("distance * speed", "abs(distance) * speed")],
        "fails": "test-score-more",
        "says": "distance -1 scores -sin 1",
    },
    {
        "task": "score",
        "name": "the base is ignored",
        "change": [("speeds = base **", "speeds = 10_000.0 **")],
        "fails": "test-score-more",
        "says": "base 100",
    },
    {
        "task": "score",
        "name": "half-split pairs",
        "change": [
            (
                "torch.view_as_complex(q.view(-1, 2)), torch.view_as_complex(k.view(-1, 2))",
                "torch.complex(q[: d // 2], q[d // 2 :]), torch.complex(k[: d // 2], k[d // 2 :])",
            )
        ],
        "fails": "test-score-more",
        "says": "against turning both",
    },
    # unpack
    {
        "task": "unpack",
        "name": "the order is left as it was",
        "change": [("[c * head_dim // 2 + j for j in range(head_dim // 2) for c in (0, 1)]", "list(range(head_dim))")],
        "fails": "test-unpack",
        "says": "side by side",
    },
    {
        "task": "unpack",
        "name": "the other direction",
        "change": [
            (
                "[c * head_dim // 2 + j for j in range(head_dim // 2) for c in (0, 1)]",
                "[2 * j + c for c in (0, 1) for j in range(head_dim // 2)]",
            )
        ],
        "fails": "test-unpack-more",
        "says": "(0, 3), (1, 4), (2, 5)",
    },
    {
        "task": "unpack",
        "name": "values are reordered too",
        "change": [("heads[:, group + 1].reshape", "heads[:, group + 1][:, order].reshape")],
        "fails": "test-unpack",
        "says": "values are not turned",
    },
    {
        "task": "unpack",
        "name": "all queries first, then keys, then values",
        "code": """
def unpack(packed, n_heads, n_kv_heads):
    d = len(packed) // (n_heads + 2 * n_kv_heads)
    order = [c * d // 2 + j for j in range(d // 2) for c in (0, 1)]
    heads = packed.view(-1, d, packed.shape[1])
    wq, wk, wv = heads[:n_heads], heads[n_heads : n_heads + n_kv_heads], heads[n_heads + n_kv_heads :]
    return tuple(w.reshape(-1, packed.shape[1]) for w in (wq[:, order], wk[:, order], wv))
""",
        "fails": "test-unpack-more",
        "says": "its key and its value",
    },
    {
        "task": "unpack",
        "name": "keys are not reordered",
        "change": [("heads[:, group][:, order].reshape", "heads[:, group].reshape")],
        "fails": "test-unpack",
        "says": "rows of wk",
    },
    # attend
    {
        "task": "attend",
        "name": "the scale is forgotten",
        "change": [(" / math.sqrt(d)", "")],
        "fails": "test-attend-more",
        "says": "divided by the square root",
    },
    {
        "task": "attend",
        "name": "heads take turns",
        "change": [("h // (n_heads // n_kv_heads)", "h % n_kv_heads")],
        "fails": "test-attend",
        "says": "neighbours share",
    },
    {
        "task": "attend",
        "name": "no mask",
        "change": [("position = n_keys - n_queries + t", "position = n_keys - 1")],
        "fails": "test-attend",
        "says": "none after it",
    },
    {
        "task": "attend",
        "name": "a query does not see itself",
        "change": [("position = n_keys - n_queries + t", "position = max(0, n_keys - n_queries + t - 1)")],
        "fails": "test-attend",
        "says": "up to itself",
    },
    {
        "task": "attend",
        "name": "the window is one too wide",
        "change": [("position - window + 1", "position - window")],
        "fails": "test-attend",
        "says": "window of 2",
    },
    {
        "task": "attend",
        "name": "cached keys are counted as later",
        "change": [("position = n_keys - n_queries + t", "position = t")],
        "fails": "test-attend-more",
        "says": "last positions",
    },
    {
        "task": "attend",
        "name": "the softmax overflows",
        "change": [("torch.exp(scores - scores.max())", "torch.exp(scores)")],
        "fails": "test-attend-more",
        "says": "subtract the largest score",
    },
    {
        "task": "attend",
        "name": "future values count with weight in the sum",
        "change": [("weights / weights.sum() @", "weights @")],
        "fails": "test-attend",
        "says": "mean of the values",
    },
    # people
    {
        "task": "people",
        "name": "keys without values",
        "change": [("return 2 * config.n_layers", "return config.n_layers")],
        "fails": "test-people",
        "says": "key and value",
    },
    {
        "task": "people",
        "name": "no scales, like the library",
        "change": [("* cache_bits + 16", "* cache_bits")],
        "fails": "test-people",
        "says": "a scale of 16",
    },
    {
        "task": "people",
        "name": "query heads in place of key/value heads",
        "change": [("config.n_kv_heads", "config.n_heads")],
        "fails": "test-people",
        "says": "1 head",
    },
    {
        "task": "people",
        "name": "half a person",
        "change": [
            (
                "max(0, int(left // cache_bytes(config, context, cache_bits)))",
                "max(0, left / cache_bytes(config, context, cache_bits))",
            )
        ],
        "fails": "test-people",
        "says": "whole people",
    },
    {
        "task": "people",
        "name": "negative people",
        "change": [
            (
                "max(0, int(left // cache_bytes(config, context, cache_bits)))",
                "int(left // cache_bytes(config, context, cache_bits))",
            )
        ],
        "fails": "test-people-more",
        "says": "negative number of people",
    },
    {
        "task": "people",
        "name": "the reserve is a share of what the weights leave",
        "change": [
            (
                "card_bytes * (1 - reserve) - config.n_parameters() * weight_bits / 8",
                "(card_bytes - config.n_parameters() * weight_bits / 8) * (1 - reserve)",
            )
        ],
        "fails": "test-people",
        "says": "tenth of reserve",
    },
]
