"""Typical wrong answers to problem set 4: what is changed in the right one, which test stops, and what it must say."""

WRONG = [
    # keep
    {
        "task": "keep",
        "name": "overlap over union, like the library",
        "change": [("len(sets[i] & sets[j]) / len(sets[i])", "len(sets[i] & sets[j]) / len(sets[i] | sets[j])")],
        "fails": "test-keep",
        "says": "all of the quotation's shingles",
    },
    {
        "task": "keep",
        "name": "in the given order, so that the page goes and the quotation stays",
        "change": [
            ("sorted(range(len(texts)), key=lambda i: -len(sets[i]))", "range(len(texts))"),
            ("/ len(sets[i]) < threshold", "/ min(len(sets[i]), len(sets[j])) < threshold"),
        ],
        "fails": "test-keep",
        "says": "the page is longer",
    },
    {
        "task": "keep",
        "name": "capitals and spaces count",
        "change": [('" ".join(text.casefold().split())', "text")],
        "fails": "test-keep",
        "says": "other capitals and spaces",
    },
    {
        "task": "keep",
        "name": "in the order of going through, not ascending",
        "change": [("return sorted(kept)", "return kept[::-1]")],
        "fails": "test-keep",
        "says": "two equal texts",
    },
    {
        "task": "keep",
        "name": "against all kept texts together",
        "change": [
            (
                "if all(len(sets[i] & sets[j]) / len(sets[i]) < threshold for j in kept):",
                "if len(sets[i] & set().union(*(sets[j] for j in kept))) / len(sets[i]) < threshold:",
            )
        ],
        "fails": "test-keep-more",
        "says": "no single one",
    },
    {
        "task": "keep",
        "name": "against dropped texts too",
        "change": [
            ("for j in kept", "for j in range(len(texts)) if (-len(sets[j]), j) < (-len(sets[i]), i)"),
        ],
        "fails": "test-keep-more",
        "says": "that one was dropped",
    },
    {
        "task": "keep",
        "name": "above the threshold only",
        "change": [("< threshold", "<= threshold")],
        "fails": "test-keep-more",
        "says": "at least the threshold",
    },
    {
        "task": "keep",
        "name": "a short text has no shingle",
        "change": [
            ("range(max(1, len(text) - n + 1))", "range(len(text) - n + 1)"),
            ("/ len(sets[i]) < threshold", "< threshold * len(sets[i])"),
        ],
        "fails": "test-keep-more",
        "says": "shorter than a shingle",
    },
    {
        "task": "keep",
        "name": "shingles of words",
        "change": [
            ('text = " ".join(text.casefold().split())', "words = text.casefold().replace('.', '').split()"),
            (
                "{text[i : i + n] for i in range(max(1, len(text) - n + 1))}",
                "{tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}",
            ),
        ],
        "fails": "test-keep-more",
        "says": "characters, not words",
    },
    {
        "task": "keep",
        "name": "from the longest text, not from the most shingles",
        "change": [("key=lambda i: -len(sets[i])", "key=lambda i: -len(texts[i])")],
        "fails": "test-keep-more",
        "says": "has two",
    },
    # schedule
    {
        "task": "schedule",
        "name": "a cosine in place of the line",
        "change": [("* left / decay)", "* (1 - math.cos(math.pi * left / decay)) / 2)")],
        "fails": "test-schedule-more",
        "says": "step 81",
    },
    {
        "task": "schedule",
        "name": "the first step is 0",
        "change": [("peak * step / warmup", "peak * (step - 1) / warmup")],
        "fails": "test-schedule",
        "says": "of the warm-up",
    },
    {
        "task": "schedule",
        "name": "down to zero",
        "change": [("(floor + (1 - floor) * left / decay)", "left / decay")],
        "fails": "test-schedule",
        "says": "a tenth at the end",
    },
    {
        "task": "schedule",
        "name": "the floor is a rate, not a share of the peak",
        "change": [("peak * (floor + (1 - floor) * left / decay)", "floor + (peak - floor) * left / decay")],
        "fails": "test-schedule",
        "says": "a tenth at the end",
    },
    {
        "task": "schedule",
        "name": "falls on after the end",
        "change": [("max(0, steps - step)", "steps - step")],
        "fails": "test-schedule-more",
        "says": "below its last value",
    },
    {
        "task": "schedule",
        "name": "the decay begins one step early",
        "change": [("if left >= decay:", "if left > decay:"), ("left / decay)", "left / (decay + 1))")],
        "fails": "test-schedule",
        "says": "half of the way down",
    },
    {
        "task": "schedule",
        "name": "the trunk runs to the end of the longest",
        "change": [("return sum(lengths), trunk + sum(decays)", "return sum(lengths), max(lengths) + sum(decays)")],
        "fails": "test-schedule",
        "says": "a trunk of 7,200",
    },
    {
        "task": "schedule",
        "name": "the longest is the last",
        "change": [
            (
                "max(length - decay for length, decay in zip(lengths, decays, strict=True))",
                "lengths[-1] - decays[-1]",
            )
        ],
        "fails": "test-schedule-more",
        "says": "whatever the order",
    },
    # accumulate
    {
        "task": "accumulate",
        "name": "the mean of means",
        "change": [
            ("sum(loss * n for loss, n, _ in parts) / total", "sum(loss for loss, _, _ in parts) / len(parts)"),
            ("gradient * (n / total)", "gradient / len(parts)"),
        ],
        "fails": "test-accumulate",
        "says": "the mean of the two means is 3",
    },
    {
        "task": "accumulate",
        "name": "the loss by tokens, the gradient by parts",
        "change": [("gradient * (n / total)", "gradient / len(parts)")],
        "fails": "test-accumulate",
        "says": "a quarter of the tokens",
    },
    {
        "task": "accumulate",
        "name": "the gradient is a sum over tokens",
        "change": [("gradient * (n / total)", "gradient * n")],
        "fails": "test-accumulate",
        "says": "their gradient",
    },
    {
        "task": "accumulate",
        "name": "each part is clipped",
        "change": [
            (
                "sum(gradient * (n / total) for _, n, gradient in parts)",
                "sum(g * min(1.0, clip / g.norm().item()) * (n / total) for _, n, g in parts)",
            )
        ],
        "fails": "test-accumulate",
        "says": "keeps its direction",
    },
    {
        "task": "accumulate",
        "name": "numbers are clipped, not the norm",
        "change": [("gradient * (clip / norm) if norm > clip else gradient", "gradient.clamp(-clip, clip)")],
        "fails": "test-accumulate",
        "says": "keeps its direction",
    },
    {
        "task": "accumulate",
        "name": "the norm after clipping",
        "change": [
            (
                "return loss, gradient * (clip / norm) if norm > clip else gradient, norm",
                "return loss, gradient * min(1.0, clip / max(norm, 1e-9)), min(norm, clip)",
            )
        ],
        "fails": "test-accumulate",
        "says": "what the norm was before",
    },
    {
        "task": "accumulate",
        "name": "always scaled to the limit",
        "change": [("if norm > clip else gradient", "if norm > 0 and clip < math.inf else gradient")],
        "fails": "test-accumulate-more",
        "says": "clipped at 10",
    },
    {
        "task": "accumulate",
        "name": "empty parts count with weight 0",
        "change": [("parts = [part for part in parts if part[1] > 0]", "parts = list(parts)")],
        "fails": "test-accumulate-more",
        "says": "0 times nan is nan",
    },
    {
        "task": "accumulate",
        "name": "no tokens, no error",
        "change": [
            (
                'raise ValueError("no part has a token, so there is no mean; got only empty parts")',
                "return 0.0, torch.zeros(2), 0.0",
            )
        ],
        "fails": "test-accumulate-more",
        "says": "ruin every weight",
    },
    {
        "task": "accumulate",
        "name": "in place",
        "change": [("gradient * (n / total) for", "gradient.mul_(n / total) for")],
        "fails": "test-accumulate-more",
        "says": "unchanged",
    },
    # judge
    {
        "task": "judge",
        "name": "asked once",
        "change": [("for r in range(n):", "for r in range(1):")],
        "fails": "test-judge",
        "says": "once for each rotation",
    },
    {
        "task": "judge",
        "name": "letters are not traced back to options",
        "change": [("scores[(j + r) % n] += value / n", "scores[j] += value / n")],
        "fails": "test-judge",
        "says": "though A won twice",
    },
    {
        "task": "judge",
        "name": "a space after the last colon",
        "change": [('"Answer:"', '"Answer: "')],
        "fails": "test-judge",
        "says": "without anything at its end",
    },
    {
        "task": "judge",
        "name": "rotated the other way",
        "change": [("(j + r) % n", "(j - r) % n")],
        "fails": "test-judge-more",
        "says": "rotation r begins with option r",
    },
    {
        "task": "judge",
        "name": "the best rotation counts",
        "code": """
def judge(ask, question, options):
    n = len(options)
    scores, letters = [-math.inf] * n, [0.0] * n
    for r in range(n):
        lines = [f"{chr(ord('A') + j)}. {options[(j + r) % n]}" for j in range(n)]
        for j, value in enumerate(ask("\\n".join([question, *lines, "Answer:"]))):
            scores[(j + r) % n] = max(scores[(j + r) % n], value)
            letters[j] += value / n
    return scores, [value - sum(letters) / n for value in letters]
""",
        "fails": "test-judge",
        "says": "the score of 'yes'",
    },
    {
        "task": "judge",
        "name": "the logarithm of mean probabilities",
        "code": """
def judge(ask, question, options):
    n = len(options)
    scores, letters = [0.0] * n, [0.0] * n
    for r in range(n):
        lines = [f"{chr(ord('A') + j)}. {options[(j + r) % n]}" for j in range(n)]
        for j, value in enumerate(ask("\\n".join([question, *lines, "Answer:"]))):
            scores[(j + r) % n] += math.exp(value) / n
            letters[j] += value / n
    return [math.log(s) for s in scores], [value - sum(letters) / n for value in letters]
""",
        "fails": "test-judge",
        "says": "the score of 'yes'",
    },
    {
        "task": "judge",
        "name": "leanings are not centred",
        "change": [("value - sum(letters) / n for value", "value for value")],
        "fails": "test-judge",
        "says": "the leaning of A",
    },
    {
        "task": "judge",
        "name": "all orders",
        "code": """
def judge(ask, question, options):
    import itertools
    n = len(options)
    orders = sorted(itertools.permutations(range(n)))
    scores, letters = [0.0] * n, [0.0] * n
    for order in orders:
        lines = [f"{chr(ord('A') + j)}. {options[i]}" for j, i in enumerate(order)]
        for j, value in enumerate(ask("\\n".join([question, *lines, "Answer:"]))):
            scores[order[j]] += value / len(orders)
            letters[j] += value / len(orders)
    return scores, [value - sum(letters) / n for value in letters]
""",
        "fails": "test-judge-more",
        "says": "n rotations are enough",
    },
    # paired
    {
        "task": "paired",
        "name": "one direction only",
        "change": [("2 * ways / 2**n", "ways / 2**n")],
        "fails": "test-paired",
        "says": "all tails",
    },
    {
        "task": "paired",
        "name": "the probability of this very result",
        "change": [("for heads in range(min(wins, losses) + 1)", "for heads in [min(wins, losses)]")],
        "fails": "test-paired",
        "says": "(1 + 4) ways of 16",
    },
    {
        "task": "paired",
        "name": "at most the losses, so the direction matters",
        "change": [("min(wins, losses)", "losses")],
        "fails": "test-paired-more",
        "says": "direction must not matter",
    },
    {
        "task": "paired",
        "name": "a probability above 1",
        "change": [("min(1.0, 2 * ways / 2**n)", "2 * ways / 2**n")],
        "fails": "test-paired-more",
        "says": "more than 1",
    },
    {
        "task": "paired",
        "name": "floats that overflow",
        "change": [("2 * ways / 2**n", "2 * ways * 0.5**n")],
        "fails": "test-paired-more",
        "says": "int too large to convert to float",
    },
    {
        "task": "paired",
        "name": "every question for itself, like the library",
        "change": [("sums.get(group, 0.0) + d - mean", "d - mean"), ("sums[group] =", "sums[len(sums)] =")],
        "fails": "test-paired",
        "says": "two independent ones",
    },
    {
        "task": "paired",
        "name": "groups are averaged",
        "change": [
            ("s * s for s in sums.values()", "(s / list(groups).count(g)) ** 2 for g, s in sums.items()"),
            (")) / n", ")) / len(sums)"),
        ],
        "fails": "test-paired-more",
        "says": "not averaged",
    },
    {
        "task": "paired",
        "name": "the deviations from zero",
        "change": [("sums.get(group, 0.0) + d - mean", "sums.get(group, 0.0) + d")],
        "fails": "test-paired",
        "says": "the mean is 0.5",
    },
    # cheapest
    {
        "task": "cheapest",
        "name": "training alone, like Chinchilla",
        "change": [("+ 2 * n * served", "")],
        "fails": "test-cheapest",
        "says": "smaller, and reads more",
    },
    {
        "task": "cheapest",
        "name": "use counted like training",
        "change": [("2 * n * served", "6 * n * served")],
        "fails": "test-cheapest",
        "says": "12 N",
    },
    {
        "task": "cheapest",
        "name": "twenty tokens a parameter",
        "code": """
def cheapest(law, loss, served):
    e, a_size, a, b_size, b = law
    if loss <= e:
        raise ValueError("too low")
    low, high = 0.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        n = math.exp(middle)
        low, high = (middle, high) if e + a_size / n**a + b_size / (20 * n) ** b > loss else (low, middle)
    return n, 20 * n
""",
        "fails": "test-cheapest",
        "says": "2 x 2",
    },
    {
        "task": "cheapest",
        "name": "a grid with one point in each factor of two",
        "code": """
def cheapest(law, loss, served):
    e, a_size, a, b_size, b = law
    if loss <= e:
        raise ValueError("too low")
    smallest = (a_size / (loss - e)) ** (1 / a)
    found = []
    for step in range(1, 60):
        n = smallest * 2**step
        d = (b_size / (loss - e - a_size / n**a)) ** (1 / b)
        found.append((6 * n * d + 2 * n * served, n, d))
    return min(found)[1:]
""",
        "fails": "test-cheapest",
        "says": "6 tokens in use",
    },
    {
        "task": "cheapest",
        "name": "a range of sizes that ends too early",
        "change": [("high = low + 30", "high = min(low + 30, math.log(5e9))")],
        "fails": "test-cheapest-more",
        "says": "must not be cheaper",
    },
    {
        "task": "cheapest",
        "name": "the tokens of another loss",
        "change": [
            (
                "    n = math.exp((low + high) / 2)\n    return n, tokens(n)",
                "    n = math.exp((low + high) / 2)\n    return n, (b_size / (a_size / n**a)) ** (1 / b)",
            )
        ],
        "fails": "test-cheapest",
        "says": "D for the same loss",
    },
    {
        "task": "cheapest",
        "name": "nothing is impossible",
        "change": [
            (
                'raise ValueError(f"no model reaches the loss {loss}: the law\'s floor is {e}")',
                "return math.inf, math.inf",
            )
        ],
        "fails": "test-cheapest-more",
        "says": "no model is better than the floor",
    },
]
