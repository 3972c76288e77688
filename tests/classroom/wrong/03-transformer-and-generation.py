"""Typical wrong answers to problem set 3: what is changed in the right one, which test stops, and what it must say."""

WRONG = [
    # block
    {
        "task": "block",
        "name": "the norm stands on the stream in the order 'pre'",
        "change": [("h = x + attention(norm_1(x))\n", "n = norm_1(x)\n        h = n + attention(n)\n")],
        "fails": "test-block",
        "says": "the norm is on the branch",
    },
    {
        "task": "block",
        "name": "the feed-forward layer reads what attention read",
        "change": [("feed_forward(norm_2(h))", "feed_forward(norm_2(x))")],
        "fails": "test-block",
        "says": "h = 12",
    },
    {
        "task": "block",
        "name": "'post' normalises before the addition",
        "change": [
            ("norm_1(x + attention(x))", "x + norm_1(attention(x))"),
            ("norm_2(h + feed_forward(h))", "h + norm_2(feed_forward(h))"),
        ],
        "fails": "test-block",
        "says": "the norm is on the stream",
    },
    {
        "task": "block",
        "name": "'parallel' uses both norms",
        "change": [("feed_forward(normed)", "feed_forward(norm_2(x))")],
        "fails": "test-block",
        "says": "both layers read the same norm",
    },
    {
        "task": "block",
        "name": "'parallel' forgets the stream",
        "change": [("x + attention(normed)", "attention(normed)")],
        "fails": "test-block",
        "says": "2 + 10 + 1",
    },
    {
        "task": "block",
        "name": "the norm is computed twice",
        "change": [("x + attention(normed) + feed_forward(normed)", "x + attention(norm_1(x)) + feed_forward(normed)")],
        "fails": "test-block-more",
        "says": "one norm serves both",
    },
    {
        "task": "block",
        "name": "in place",
        "change": [("h = x + attention(norm_1(x))", "x += attention(norm_1(x))\n        h = x")],
        "fails": "test-block-more",
        "says": "the caller's tensor",
    },
    {
        "task": "block",
        "name": "any other order is Llama's",
        "change": [
            (
                "raise ValueError(f\"order must be 'pre', 'post' or 'parallel', got {order!r}\")",
                'return block(x, attention, feed_forward, norm_1, norm_2, "pre")',
            )
        ],
        "fails": "test-block-more",
        "says": "silent default",
    },
    # width
    {
        "task": "width",
        "name": "keys without values",
        "change": [("freed = 2 * config.dim", "freed = config.dim")],
        "fails": "test-width",
        "says": "wk and wv",
    },
    {
        "task": "width",
        "name": "a feed-forward layer of two matrices",
        "change": [("(3 * config.dim)", "(2 * config.dim)")],
        "fails": "test-width",
        "says": "3 x 8 = 24",
    },
    {
        "task": "width",
        "name": "all four matrices of attention shrink",
        "change": [("freed = 2 *", "freed = 4 *")],
        "fails": "test-width",
        "says": "96 are free",
    },
    {
        "task": "width",
        "name": "the paper's 1.3, always",
        "change": [("config.ffn_hidden + freed / (3 * config.dim)", "1.3 * config.ffn_hidden")],
        "fails": "test-width",
        "says": "4 more",
    },
    {
        "task": "width",
        "name": "rounded up as in the rule",
        "change": [
            (
                "below if exact - below <= below + config.multiple_of - exact else below",
                "below if exact == below else below",
            )
        ],
        "fails": "test-width-more",
        "says": "as near to 24 as to 32",
    },
    {
        "task": "width",
        "name": "the heads before were all",
        "change": [("(config.n_kv_heads - n_kv_heads)", "(config.n_heads - n_kv_heads)")],
        "fails": "test-width-more",
        "says": "2 key/value heads, not 4",
    },
    {
        "task": "width",
        "name": "never narrower than before",
        "change": [("max(nearest, config.multiple_of)", "max(nearest, config.ffn_hidden)")],
        "fails": "test-width-more",
        "says": "must shrink",
    },
    {
        "task": "width",
        "name": "the ratio of the widths, not the smallest multiplier",
        "change": [
            ("for hundredths in range(1, 401):\n", "for hundredths in [round(100 * width / int(8 * dim / 3))]:\n"),
        ],
        "fails": "test-width",
        "says": "times 1.13",
    },
    {
        "task": "width",
        "name": "a multiplier for every width",
        "change": [("* multiple_of == width", "* multiple_of >= width")],
        "fails": "test-width-more",
        "says": "no multiple of 4,096",
    },
    # extend
    {
        "task": "extend",
        "name": "the head's new rows by spelling too",
        "change": [
            (
                "head.double().mean(0).repeat(len(spellings), 1)",
                "torch.stack([head[ids].double().mean(0) for ids in spellings])",
            )
        ],
        "fails": "test-extend",
        "says": "whatever the spelling",
    },
    {
        "task": "extend",
        "name": "the embedding starts as the mean of all",
        "change": [("(table[ids] if ids else table)", "table")],
        "fails": "test-extend",
        "says": "the pieces that spelled it",
    },
    {
        "task": "extend",
        "name": "rows near zero, like an untrained model's",
        "change": [("head.double().mean(0).repeat(len(spellings), 1)", "torch.zeros(len(spellings), head.shape[1])")],
        "fails": "test-extend",
        "says": "so that they are quiet",
    },
    {
        "task": "extend",
        "name": "new rows in front",
        "change": [("torch.cat([table, rows.to(table.dtype)])", "torch.cat([rows.to(table.dtype), table])")],
        "fails": "test-extend",
        "says": "with two more rows",
    },
    {
        "task": "extend",
        "name": "the given dict is changed",
        "change": [
            ("return state | {", "state |= {"),
            ("quiet.to(head.dtype)]),\n    }", "quiet.to(head.dtype)]),\n    }\n    return state"),
        ],
        "fails": "test-extend-more",
        "says": "stay as they were",
    },
    {
        "task": "extend",
        "name": "an id counts once",
        "change": [("table[ids] if ids", "table[sorted(set(ids))] if ids")],
        "fails": "test-extend-more",
        "says": "counts twice",
    },
    {
        "task": "extend",
        "name": "a piece without a spelling is nan",
        "change": [("(table[ids] if ids else table)", "table[ids]")],
        "fails": "test-extend-more",
        "says": "mean of no rows is nan",
    },
    {
        "task": "extend",
        "name": "a tied model's head is forgotten",
        "code": """
def extend(state, spellings):
    tables = {}
    for name in ("tok_embeddings.weight", "output.weight"):
        if name in state:
            table = state[name].double()
            picks = [ids if ids and name != "output.weight" else range(len(table)) for ids in spellings]
            rows = torch.stack([table[list(ids)].mean(0) for ids in picks])
            tables[name] = torch.cat([state[name], rows.to(state[name].dtype)])
    return state | tables
""",
        "fails": "test-extend-more",
        "says": "head is its embedding table",
    },
    {
        "task": "extend",
        "name": "summed in the table's own type",
        "change": [
            ("head.double().mean(0).repeat(len(spellings), 1)", "(sum(head) / len(head)).repeat(len(spellings), 1)")
        ],
        "fails": "test-extend-more",
        "says": "lost to rounding",
    },
    # stops
    {
        "task": "stops",
        "name": "looks into each piece alone",
        "code": """
def stream_until(pieces, stops):
    shown = []
    for piece in pieces:
        for stop in stops:
            if stop in piece:
                return [*shown, piece.split(stop)[0]], stop
        shown.append(piece)
    return shown, None
""",
        "fails": "test-stops",
        "says": "spread over two pieces",
    },
    {
        "task": "stops",
        "name": "shows first and looks afterwards",
        "code": """
def stream_until(pieces, stops):
    shown = []
    for piece in pieces:
        shown.append(piece)
        text = "".join(shown)
        for stop in stops:
            if stop in text:
                return shown, stop
    return shown, None
""",
        "fails": "test-stops",
        "says": "the rest never",
    },
    {
        "task": "stops",
        "name": "holds everything back until the end",
        "code": """
def stream_until(pieces, stops):
    text, shown = "", []
    for piece in pieces:
        text += piece
        shown.append("")
        found = [stop for stop in stops if stop in text]
        if found:
            stop = min(found, key=text.index)
            shown[-1] = text[: text.index(stop)]
            return shown, stop
    if shown:
        shown[-1] = text
    return shown, None
""",
        "fails": "test-stops",
        "says": "as soon as they are there",
    },
    {
        "task": "stops",
        "name": "what was held back is lost at the end",
        "change": [("        shown[-1] += held\n", "        shown[-1] += ''\n")],
        "fails": "test-stops",
        "says": "nothing follows",
    },
    {
        "task": "stops",
        "name": "the stop text is shown",
        "change": [("out + held[: -len(stop)]", "out + held")],
        "fails": "test-stops",
        "says": "the rest never",
    },
    {
        "task": "stops",
        "name": "a mismatch frees everything that was held",
        "change": [
            (
                "begun = [n for stop in stops for n in range(1, len(stop)) if held.endswith(stop[:n])]",
                "begun = [len(held) for stop in stops if stop.startswith(held)]",
            )
        ],
        "fails": "test-stops-more",
        "says": "frees only the first",
    },
    {
        "task": "stops",
        "name": "holds back as many characters as the longest stop text has",
        "change": [
            (
                "begun = [n for stop in stops for n in range(1, len(stop)) if held.endswith(stop[:n])]",
                "begun = [min(len(held), len(stop) - 1) for stop in stops]",
            )
        ],
        "fails": "test-stops",
        "says": "shown as soon",
    },
    {
        "task": "stops",
        "name": "of two that end together the first in the list",
        "change": [("max(complete, key=len)", "complete[0]")],
        "fails": "test-stops-more",
        "says": "the one that began first",
    },
    {
        "task": "stops",
        "name": "looks only at the ends of pieces",
        "code": """
def stream_until(pieces, stops):
    shown, held = [], ""
    for piece in pieces:
        held += piece
        found = [stop for stop in stops if stop in held]
        if found:
            stop = min(found, key=held.index)
            return [*shown, held[: held.index(stop)]], stop
        begun = [n for stop in stops for n in range(1, len(stop)) if held.endswith(stop[:n])]
        free = len(held) - max(begun, default=0)
        shown.append(held[:free])
        held = held[free:]
    if shown:
        shown[-1] += held
    return shown, None
""",
        "fails": "test-stops-more",
        "says": "is complete before",
    },
    # guess
    {
        "task": "guess",
        "name": "what is not kept is drawn from the target",
        "change": [("[m / sum(more) for m in more]", "p")],
        "fails": "test-guess-more",
        "says": "gives exactly p",
    },
    {
        "task": "guess",
        "name": "kept only where the target likes the token more",
        "change": [("if next(dice) >= p[token] / q[token]:", "if next(dice) >= 0 and p[token] < q[token]:")],
        "fails": "test-guess-more",
        "says": "gives exactly p",
    },
    {
        "task": "guess",
        "name": "kept with the target's probability",
        "change": [("p[token] / q[token]", "p[token]")],
        "fails": "test-guess-more",
        "says": "keeping with p / q",
    },
    {
        "task": "guess",
        "name": "no additional token",
        "change": [("return [*drafted, _draw(target(prompt + drafted), next(dice))]", "return drafted")],
        "fails": "test-guess",
        "says": "one more comes from the target",
    },
    {
        "task": "guess",
        "name": "goes on after a token that was not kept",
        "change": [
            (
                "return [*drafted[:place], _draw([m / sum(more) for m in more], next(dice))]",
                "drafted[place] = _draw([m / sum(more) for m in more], next(dice))",
            )
        ],
        "fails": "test-guess",
        "says": "1 is drawn, and the round ends",
    },
    {
        "task": "guess",
        "name": "the difference is not divided by its sum",
        "change": [("[m / sum(more) for m in more]", "more")],
        "fails": "test-guess-more",
        "says": "max(0, p - q)",
    },
    {
        "task": "guess",
        "name": "the target is asked after the prompt only",
        "change": [("p = target(prompt + drafted[:place])", "p = target(prompt)")],
        "fails": "test-guess",
        "says": "agrees with everything",
    },
    {
        "task": "guess",
        "name": "the draft forgets what it has drafted",
        "change": [("draft(prompt + drafted)", "draft(prompt)")],
        "fails": "test-guess",
        "says": "agrees with everything",
    },
    {
        "task": "guess",
        "name": "the additional token comes from the draft",
        "change": [("_draw(target(prompt + drafted), next(dice))", "_draw(draft(prompt + drafted), next(dice))")],
        "fails": "test-guess-more",
        "says": "the additional token is drawn from the target",
    },
    {
        "task": "guess",
        "name": "the closed formula without its limit",
        "change": [("sum(rate**i for i in range(k + 1))", "(1 - rate ** (k + 1)) / (1 - rate)")],
        "fails": "test-guess-more",
        "says": "division by zero",
    },
    {
        "task": "guess",
        "name": "the target's own call is free",
        "change": [("(1 + k * cost)", "max(1, k * cost)")],
        "fails": "test-guess",
        "says": "1 + 2 x 0.25 calls",
    },
    {
        "task": "guess",
        "name": "at least one token is drafted",
        "change": [("max(range(longest + 1)", "max(range(1, longest + 1)")],
        "fails": "test-guess-more",
        "says": "so draft nothing",
    },
]
