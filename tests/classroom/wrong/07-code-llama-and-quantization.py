"""Typical wrong answers to problem set 7: what is changed in the right one, which test stops, and what it must say."""

WRONG = [
    # hole
    {
        "task": "hole",
        "name": "the prefix keeps its beginning",
        "change": [("*prefix[len(prefix) - before :]", "*prefix[:before]")],
        "fails": "test-hole",
        "says": "the end of the prefix",
    },
    {
        "task": "hole",
        "name": "the suffix keeps its end",
        "change": [("*suffix[:after]", "*suffix[len(suffix) - after :]")],
        "fails": "test-hole",
        "says": "the start of the suffix",
    },
    {
        "task": "hole",
        "name": "the control ids are not counted",
        "change": [("room = limit - 4", "room = limit")],
        "fails": "test-hole",
        "says": "4 of 10 ids are control ids",
    },
    {
        "task": "hole",
        "name": "suffix first",
        "change": [
            ("prefix[len(prefix) - before :]]", 'suffix[:after], marks["suf"]]'),
            ('marks["suf"], *suffix[:after], marks["mid"]', '*prefix[len(prefix) - before :], marks["mid"]'),
        ],
        "fails": "test-hole",
        "says": "trained on this order",
    },
    {
        "task": "hole",
        "name": "what one side leaves is lost",
        "change": [
            ("max(2 * room // 3, room - len(suffix))", "2 * room // 3"),
            ("room - before)", "room - 2 * room // 3)"),
        ],
        "fails": "test-hole-more",
        "says": "what one side leaves",
    },
    {
        "task": "hole",
        "name": "minus zero",
        "change": [("prefix[len(prefix) - before :]", "prefix[-before:]")],
        "fails": "test-hole-more",
        "says": "x[-0:] is all of x",
    },
    {
        "task": "hole",
        "name": "a limit of 3 is not refused",
        "change": [("    if room < 0:", "    if room < -4:")],
        "fails": "test-hole-more",
        "says": "do not send half a prompt",
    },
    {
        "task": "hole",
        "name": "one equal character is enough",
        "change": [("least - 1, -1)", "0, -1)")],
        "fails": "test-hole",
        "says": "one character in common",
    },
    {
        "task": "hole",
        "name": "the shortest repetition is cut",
        "change": [
            ("range(min(len(middle), len(suffix)), least - 1, -1)", "range(least, min(len(middle), len(suffix)) + 1)")
        ],
        "fails": "test-hole-more",
        "says": "the longest ending counts",
    },
    {
        "task": "hole",
        "name": "more than least characters",
        "change": [("least - 1, -1)", "least, -1)")],
        "fails": "test-hole-more",
        "says": "fewer than 8 stay",
    },
    {
        "task": "hole",
        "name": "cut where the suffix's words first occur",
        "change": [
            ("if middle.endswith(suffix[:length])", "if suffix[:length] in middle"),
            ("middle[: len(middle) - length]", "middle[: middle.index(suffix[:length])]"),
        ],
        "fails": "test-hole-more",
        "says": "further up",
    },
    # kept
    {
        "task": "kept",
        "name": "the tempting formula",
        "change": [("1 - math.comb(n - passing, k) / math.comb(n, k)", "1 - (1 - passing / n) ** k")],
        "fails": "test-kept",
        "says": "not put back",
    },
    {
        "task": "kept",
        "name": "pass@k of the right programs",
        "code": """
def kept(tries, k):
    n, passing = len(tries), sum(p for p, _ in tries)
    right = sum(p and r for p, r in tries)
    if k > n:
        raise ValueError("too few tries")
    return 1 - math.comb(n - passing, k) / math.comb(n, k), 1 - math.comb(n - right, k) / math.comb(n, k)


def harvest(questions, k):
    chances = [kept(tries, k) for tries in questions]
    number = sum(chance for chance, _ in chances)
    return number, sum(right for _, right in chances) / number if number else 0.0
""",
        "fails": "test-kept",
        "says": "even if a right one comes behind it",
    },
    {
        "task": "kept",
        "name": "right programs that fail are counted",
        "change": [("sum(passes and right for passes, right in tries)", "sum(right for _, right in tries)")],
        "fails": "test-kept-more",
        "says": "a right program that fails is not kept",
    },
    {
        "task": "kept",
        "name": "equal tries count once",
        "change": [("n, passing = len(tries)", "tries = list(set(tries))\n    n, passing = len(tries)")],
        "fails": "test-kept",
        "says": "two of four programs pass",
    },
    {
        "task": "kept",
        "name": "too few tries are taken for enough",
        "change": [
            (
                "    if k > n:\n        raise ValueError(",
                "    k, _ = min(k, n), (",
            )
        ],
        "fails": "test-kept-more",
        "says": "nobody knows what 5 would give",
    },
    {
        "task": "kept",
        "name": "no program passes, and 0 by 0",
        "change": [("    if not passing:\n        return 0.0, 0.0\n", "")],
        "fails": "test-kept",
        "says": "division by zero",
    },
    {
        "task": "kept",
        "name": "a mean of shares over questions",
        "change": [
            (
                "return number, sum(right for _, right in chances) / number if number else 0.0",
                "shares = [right / chance for chance, right in chances if chance]\n"
                "    return number, sum(shares) / len(shares) if shares else 0.0",
            )
        ],
        "fails": "test-kept-more",
        "says": "a mean over questions",
    },
    {
        "task": "kept",
        "name": "a harvest of nothing",
        "change": [(" / number if number else 0.0", " / number")],
        "fails": "test-kept-more",
        "says": "division by zero",
    },
    # speeds
    {
        "task": "speeds",
        "name": "radians for turns",
        "change": [("trained * theta / (2 * math.pi)", "trained * theta")],
        "fails": "test-speeds-more",
        "says": "10 radians are 1.59 turns",
    },
    {
        "task": "speeds",
        "name": "position interpolation for all",
        "change": [
            ("share * theta + (1 - share) * theta / max(1, wanted / trained)", "theta / max(1, wanted / trained)")
        ],
        "fails": "test-speeds",
        "says": "has shown all its angles",
    },
    {
        "task": "speeds",
        "name": "the fast pairs are slowed down",
        "change": [("share * theta + (1 - share) * theta /", "(1 - share) * theta + share * theta /")],
        "fails": "test-speeds",
        "says": "stays as it is",
    },
    {
        "task": "speeds",
        "name": "sped up for short texts",
        "change": [("max(1, wanted / trained)", "(wanted / trained)")],
        "fails": "test-speeds-more",
        "says": "nothing may be sped up",
    },
    {
        "task": "speeds",
        "name": "wavelengths mixed in place of speeds",
        "change": [
            (
                "return share * theta + (1 - share) * theta / max(1, wanted / trained)",
                "return 1 / (share / theta + (1 - share) * max(1, wanted / trained) / theta)",
            )
        ],
        "fails": "test-speeds-more",
        "says": "1.59 turns",
    },
    {
        "task": "speeds",
        "name": "not cut to 0 and 1",
        "change": [(".clamp(0, 1)", "")],
        "fails": "test-speeds",
        "says": "stays as it is",
    },
    {
        "task": "speeds",
        "name": "the turns of the wanted length",
        "change": [("turns = trained * theta", "turns = wanted * theta")],
        "fails": "test-speeds-more",
        "says": "1.59 turns",
    },
    {
        "task": "speeds",
        "name": "the slowest pair with the exponent 1",
        "change": [("** (head_dim / (head_dim - 2))", "")],
        "fails": "test-speeds",
        "says": "54,410 tokens",
    },
    {
        "task": "speeds",
        "name": "one pair too many",
        "change": [("torch.arange(0, head_dim, 2,", "torch.arange(0, head_dim + 1, 2,")],
        "fails": "test-speeds",
        "says": "one speed for each pair",
    },
    # combine
    {
        "task": "combine",
        "name": "sums of the factors",
        "code": """
def combine(adapters, weights):
    a = sum(w * alpha / len(a) * a for (a, _, alpha), w in zip(adapters, weights))
    return a, sum(b for _, b, _ in adapters)


def shrink(a, b, rank):
    u, s, v = torch.linalg.svd(b @ a, full_matrices=False)
    return v[:rank], u[:, :rank] * s[:rank]
""",
        "fails": "test-combine",
        "says": "also multiply A of one with B of the other",
    },
    {
        "task": "combine",
        "name": "alpha is forgotten",
        "change": [("w * alpha / len(a) * b", "w * b")],
        "fails": "test-combine",
        "says": "half of the second",
    },
    {
        "task": "combine",
        "name": "the scale of the first for all",
        "change": [("w * alpha / len(a) * b", "w * adapters[0][2] / len(adapters[0][0]) * b")],
        "fails": "test-combine",
        "says": "half of the second",
    },
    {
        "task": "combine",
        "name": "alpha over the rank of the first",
        "change": [("alpha / len(a)", "alpha / len(adapters[0][0])")],
        "fails": "test-combine-more",
        "says": "its own scale",
    },
    {
        "task": "combine",
        "name": "the root of the weight on both factors",
        "change": [
            ("w * alpha / len(a) * b", "abs(w * alpha / len(a)) ** 0.5 * b"),
            (
                "torch.cat([a for a, _, _ in adapters])",
                "torch.cat([abs(w * alpha / len(a)) ** 0.5 * a for (a, _, alpha), w in zip(adapters, weights)])",
            ),
        ],
        "fails": "test-combine-more",
        "says": "has no root",
    },
    {
        "task": "combine",
        "name": "a whole matrix",
        "change": [
            (
                "return torch.cat([a for a, _, _ in adapters]), torch.cat(scaled, dim=1)",
                "whole = sum(b @ a for b, (a, _, _) in zip(scaled, adapters))\n"
                "    return whole, torch.eye(len(whole), dtype=whole.dtype)",
            )
        ],
        "fails": "test-combine-more",
        "says": "small factors",
    },
    {
        "task": "combine",
        "name": "shrinking keeps the first rows",
        "change": [
            ("    u, s, v = torch.linalg.svd(b @ a, full_matrices=False)\n", ""),
            ("return v[:rank], u[:, :rank] * s[:rank]", "return a[:rank], b[:, :rank]"),
        ],
        "fails": "test-combine",
        "says": "wherever they stand",
    },
    {
        "task": "combine",
        "name": "singular values on both factors",
        "change": [("return v[:rank]", "return s[:rank, None] * v[:rank]")],
        "fails": "test-combine",
        "says": "two largest singular values",
    },
    # pack
    {
        "task": "pack",
        "name": "the first is the upper half",
        "change": [("low | high << 4", "low << 4 | high")],
        "fails": "test-pack",
        "says": "the lower half of the byte",
    },
    {
        "task": "pack",
        "name": "cut in place of rounded",
        "change": [("round(w / scale) + zero", "int(w / scale) + zero")],
        "fails": "test-pack",
        "says": "rounded",
    },
    {
        "task": "pack",
        "name": "symmetrical around zero",
        "change": [
            (
                "low, high = min(0.0, part.min().item()), max(0.0, part.max().item())",
                "high = part.abs().max().item()\n        low = -high",
            )
        ],
        "fails": "test-pack",
        "says": "15 steps from -0.5 to 1",
    },
    {
        "task": "pack",
        "name": "16 steps",
        "change": [("(high - low) / 15", "(high - low) / 16")],
        "fails": "test-pack",
        "says": "16 numbers have 15 steps",
    },
    {
        "task": "pack",
        "name": "a zero point that is a weight, as in the library",
        "change": [
            ("scales[i // group] * (q - zeros[i // group])", "scales[i // group] * (q - 8) + zeros[i // group]")
        ],
        "fails": "test-pack",
        "says": "s (q - z)",
    },
    {
        "task": "pack",
        "name": "the grid need not hold zero",
        "change": [
            ("min(0.0, part.min().item()), max(0.0, part.max().item())", "part.min().item(), part.max().item()")
        ],
        "fails": "test-pack-more",
        "says": "the grid always holds 0",
    },
    {
        "task": "pack",
        "name": "a row of zeros",
        "change": [(" or 1.0", "")],
        "fails": "test-pack-more",
        "says": "division by zero",
    },
    {
        "task": "pack",
        "name": "each group begins a byte",
        "change": [
            (
                "        scales.append(scale)",
                "        numbers += [0] * (len(numbers) % 2)\n        scales.append(scale)",
            )
        ],
        "fails": "test-pack-more",
        "says": "go on over the borders",
    },
    {
        "task": "pack",
        "name": "the last of an odd row is lost",
        "change": [("        numbers.append(0)", "        numbers.pop()")],
        "fails": "test-pack-more",
        "says": "upper half of an odd row",
    },
    # fits
    {
        "task": "fits",
        "name": "everything in 4 bits",
        "change": [("2 * (config.n_parameters() - matrices)", "(config.n_parameters() - matrices) // 2")],
        "fails": "test-fits",
        "says": "two bytes each",
    },
    {
        "task": "fits",
        "name": "16 bits for a zero point, like the library",
        "change": [("20 * (matrices // group)", "32 * (matrices // group)")],
        "fails": "test-fits",
        "says": "20/32 bits",
    },
    {
        "task": "fits",
        "name": "nothing is to spare",
        "change": [("device_bytes - spare -", "device_bytes -")],
        "fails": "test-fits",
        "says": "2 to spare",
    },
    {
        "task": "fits",
        "name": "any number of tokens",
        "change": [(" // 1024 * 1024", "")],
        "fails": "test-fits",
        "says": "whole thousands",
    },
    {
        "task": "fits",
        "name": "a negative text",
        "change": [("max(0, min(tokens, config.max_seq_len))", "min(tokens, config.max_seq_len)")],
        "fails": "test-fits-more",
        "says": "do not fit",
    },
    {
        "task": "fits",
        "name": "longer than it was trained",
        "change": [("min(tokens, config.max_seq_len)", "tokens")],
        "fails": "test-fits-more",
        "says": "trained on 16,384 tokens",
    },
    {
        "task": "fits",
        "name": "a cache with all query heads",
        "change": [
            ("config.kv_cache_bytes(1)", "(4 * config.n_layers * config.dim)"),
        ],
        "fails": "test-fits-more",
        "says": "shares a key/value head",
    },
]
