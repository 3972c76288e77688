"""Typical wrong answers to problem set 5: what is changed in the right one, which test stops, and what it must say."""

WRONG = [
    # template
    {
        "task": "template",
        "name": "nothing is shielded",
        "change": [("i + 1 for i in range(len(text)) if any(text.startswith(name, i) for name in marks)", "")],
        "fails": "test-template",
        "says": "nobody may end a message by typing it",
    },
    {
        "task": "template",
        "name": "the names are deleted, once",
        "change": [
            ("    cuts = [", '    for name in marks:\n        text = text.replace(name, "")\n    cuts = ['),
        ],
        "fails": "test-template",
        "says": "becomes its plain bytes",
    },
    {
        "task": "template",
        "name": "every character by itself",
        "change": [
            (
                "cuts = [i + 1 for i in range(len(text)) if any(text.startswith(name, i) for name in marks)]",
                "cuts = list(range(1, len(text)))",
            )
        ],
        "fails": "test-template",
        "says": "text without a name is encoded in one go",
    },
    {
        "task": "template",
        "name": "cut before the name",
        "change": [("[i + 1 for i in", "[i for i in")],
        "fails": "test-template",
        "says": "nobody may end a message by typing it",
    },
    {
        "task": "template",
        "name": "only the first name is cut",
        "change": [("for name in marks)]", "for name in marks)][:1]")],
        "fails": "test-template-more",
        "says": "both get a cut",
    },
    {
        "task": "template",
        "name": "names found without overlap",
        "change": [
            (
                "[i + 1 for i in range(len(text)) if any(text.startswith(name, i) for name in marks)]",
                '[m.start() + 1 for m in re.finditer("|".join(map(re.escape, marks)), text)]',
            )
        ],
        "fails": "test-template-more",
        "says": "begins at 0 and again at 2",
    },
    {
        "task": "template",
        "name": "only users are shielded",
        "change": [
            (
                'shield(message["text"], encode, marks)',
                '(shield(message["text"], encode, marks) if message["role"] == "user" else encode(message["text"]))',
            )
        ],
        "fails": "test-template-more",
        "says": "by users or by the model",
    },
    {
        "task": "template",
        "name": "the assistant's mark is learnt",
        "change": [("[False] + [teaches] * (len(content) + 1)", "[teaches] * (len(content) + 2)")],
        "fails": "test-template",
        "says": "its role's mark is put there by code",
    },
    {
        "task": "template",
        "name": "the end is not learnt",
        "change": [("[teaches] * (len(content) + 1)", "[teaches] * len(content) + [False]")],
        "fails": "test-template",
        "says": "ends its turn",
    },
    {
        "task": "template",
        "name": "a question without the assistant's mark",
        "change": [('messages[-1]["role"] == "user"', "False")],
        "fails": "test-template",
        "says": "the model's first token comes next",
    },
    {
        "task": "template",
        "name": "learn is ignored",
        "change": [(' and message.get("learn", True)', "")],
        "fails": "test-template-more",
        "says": "with learn False teaches nothing",
    },
    {
        "task": "template",
        "name": "stripped, like the library",
        "change": [('shield(message["text"], encode', 'shield(message["text"].strip(), encode')],
        "fails": "test-template-more",
        "says": "texts stay as they are",
    },
    {
        "task": "template",
        "name": "an unknown role is a user",
        "change": [
            ('raise ValueError(f"expected a role of system, user or assistant, got {role!r}")', 'role = "user"'),
        ],
        "fails": "test-template-more",
        "says": "a silent turn",
    },
    # rows
    {
        "task": "rows",
        "name": "targets are not shifted",
        "change": [("t + 1 < len(ids) and learnt[t + 1]", "learnt[t]"), ("ids[t + 1] if", "ids[t] if")],
        "fails": "test-rows",
        "says": "5 sees 6 as its target",
    },
    {
        "task": "rows",
        "name": "the flag of the wrong token",
        "change": [("t + 1 < len(ids) and learnt[t + 1]", "t + 1 < len(ids) and learnt[t]")],
        "fails": "test-rows",
        "says": "5 sees 6 as its target",
    },
    {
        "task": "rows",
        "name": "the loss on prompts too",
        "change": [("t + 1 < len(ids) and learnt[t + 1]", "t + 1 < len(ids)")],
        "fails": "test-rows",
        "says": "5 sees 6 as its target",
    },
    {
        "task": "rows",
        "name": "targets shifted over the whole row",
        "change": [
            (
                "    return torch.tensor(filled).unbind(-1)",
                "    for row in filled:\n"
                "        flags = {(n, t): own for n, (ids, own) in enumerate(dialogues) for t, own in enumerate(own)}\n"
                "        for i in range(context):\n"
                "            after = row[i + 1] if i + 1 < context else (0, 0, -1, 0)\n"
                "            target = after[0] if flags.get(after[2:]) else -100\n"
                "            row[i] = (row[i][0], target, *row[i][2:])\n"
                "    return torch.tensor(filled).unbind(-1)",
            )
        ],
        "fails": "test-rows-more",
        "says": "must not predict the first of its neighbour",
    },
    {
        "task": "rows",
        "name": "positions of the row",
        "change": [("-100, number, t))", "-100, number, len(rows[-1])))")],
        "fails": "test-rows",
        "says": "begin again with each dialogue",
    },
    {
        "task": "rows",
        "name": "a number for each dialogue, 0 for nothing",
        "change": [("(0, -100, -1, 0)", "(0, -100, 0, 0)")],
        "fails": "test-rows",
        "says": "earlier ones of its own number",
    },
    {
        "task": "rows",
        "name": "a dialogue a row",
        "change": [("if len(ids) > room:", "if True:")],
        "fails": "test-rows",
        "says": "fit into a row of 8",
    },
    {
        "task": "rows",
        "name": "a full row is one too full",
        "change": [("if len(ids) > room:", "if len(ids) >= room:")],
        "fails": "test-rows-more",
        "says": "2 fills the third row",
    },
    {
        "task": "rows",
        "name": "into the first row with room, like the library",
        "code": """
def lay_out(dialogues, context):
    rows = []
    for number, (ids, learnt) in enumerate(dialogues):
        ids, learnt = ids[-context:], learnt[-context:]
        places = [row for row in rows if len(row) + len(ids) <= context]
        if not places:
            rows.append([])
            places = rows[-1:]
        for t, token in enumerate(ids):
            target = ids[t + 1] if t + 1 < len(ids) and learnt[t + 1] else -100
            places[0].append((token, target, number, t))
    filled = [row + [(0, -100, -1, 0)] * (context - len(row)) for row in rows]
    return torch.tensor(filled).unbind(-1)
""",
        "fails": "test-rows-more",
        "says": "goes back to none",
    },
    {
        "task": "rows",
        "name": "the end is cut off",
        "change": [("ids[-context:], learnt[-context:]", "ids[:context], learnt[:context]")],
        "fails": "test-rows-more",
        "says": "what is cut is the beginning",
    },
    {
        "task": "rows",
        "name": "longest first, like the library",
        "change": [
            ("in enumerate(dialogues)", "in sorted(enumerate(dialogues), key=lambda pair: -len(pair[1][0]))"),
        ],
        "fails": "test-rows-more",
        "says": "in order: 4 does not fit behind 2",
    },
    # ranking
    {
        "task": "ranking",
        "name": "the mean over all pairs, like the library",
        "change": [
            ("losses += [sum(terms) / len(terms)] if terms else []", "losses += terms"),
        ],
        "fails": "test-ranking-more",
        "says": "a mean for each prompt",
    },
    {
        "task": "ranking",
        "name": "neighbours in the ranking only",
        "change": [
            (
                "for c in n for r in n if grades[c] > grades[r]",
                "for c, r in zip(sorted(n, key=lambda i: -grades[i]), sorted(n, key=lambda i: -grades[i])[1:])"
                " if grades[c] > grades[r]",
            )
        ],
        "fails": "test-ranking-more",
        "says": "so this prompt has two",
    },
    {
        "task": "ranking",
        "name": "a prompt without a pair costs 0",
        "change": [("if terms else []", "if terms else [0.0]")],
        "fails": "test-ranking-more",
        "says": "neither size nor ties may weigh",
    },
    {
        "task": "ranking",
        "name": "the margin is added",
        "change": [("- scores[r] - m for", "- scores[r] + m for")],
        "fails": "test-ranking",
        "says": "equal scores cost ln(1 + e)",
    },
    {
        "task": "ranking",
        "name": "the first answer is the better one",
        "change": [
            ("margins[min(grades[c] - grades[r], 3) - 1]", "margins[min(abs(grades[c] - grades[r]), 3) - 1]"),
            ("if grades[c] > grades[r]", "if c < r and grades[c] != grades[r]"),
        ],
        "fails": "test-ranking",
        "says": "grades may come in any order",
    },
    {
        "task": "ranking",
        "name": "the margin of the next degree",
        "change": [("min(grades[c] - grades[r], 3) - 1", "min(grades[c] - grades[r], 2)")],
        "fails": "test-ranking-more",
        "says": "a difference of two grades",
    },
    {
        "task": "ranking",
        "name": "the logarithm of a number that rounds to 0",
        "change": [("max(-z, 0) + math.log1p(math.exp(-abs(z)))", "-math.log(torch.sigmoid(torch.tensor(z)).item())")],
        "fails": "test-ranking-more",
        "says": "ranking_loss([([0.0, 1000.0]",
    },
    {
        "task": "ranking",
        "name": "pulls with the sign of an ascent",
        "change": [("found[c] -= missing", "found[c] += missing"), ("found[r] += missing", "found[r] -= missing")],
        "fails": "test-ranking",
        "says": "the better answer is pulled up",
    },
    {
        "task": "ranking",
        "name": "pulls that are summed",
        "change": [("missing / len(pairs)", "missing")],
        "fails": "test-ranking-more",
        "says": "shared out over the pairs",
    },
    {
        "task": "ranking",
        "name": "pulls without the margin",
        "change": [("z = scores[c] - scores[r] - m\n", "z = scores[c] - scores[r]\n")],
        "fails": "test-ranking-more",
        "says": "1 - sigmoid(gap - margin)",
    },
    {
        "task": "ranking",
        "name": "pulls by a power that overflows",
        "change": [("math.exp(-max(z, 0)) / (1 + math.exp(-abs(z)))", "1 - 1 / (1 + math.exp(-z))")],
        "fails": "test-ranking-more",
        "says": "math range error",
    },
    # ratings
    {
        "task": "ratings",
        "name": "no bonus, like the chapter",
        "change": [("design[:, -1] = 1", "design[:, -1] = 0")],
        "fails": "test-ratings",
        "says": "half belongs to the place",
    },
    {
        "task": "ratings",
        "name": "logits in place of Elo",
        "change": [(" * 400 / math.log(10)", "")],
        "fails": "test-ratings",
        "says": "the bonus of the first place",
    },
    {
        "task": "ratings",
        "name": "the sign of the bonus",
        "change": [("found[-1].item() * 400", "-found[-1].item() * 400")],
        "fails": "test-ratings",
        "says": "half belongs to the place",
    },
    {
        "task": "ratings",
        "name": "the share is the second one's",
        "change": [("for column in (2, 3))", "for column in (2, 3))\n    share = 1 - share")],
        "fails": "test-ratings",
        "says": "odds of 3 shown first",
    },
    {
        "task": "ratings",
        "name": "a share counts once, however many comparisons",
        "change": [("for column in (2, 3))", "for column in (2, 3))\n    number = torch.ones_like(number)")],
        "fails": "test-ratings-more",
        "says": "sum of number (p - share)",
    },
    {
        "task": "ratings",
        "name": "the bonus is held back too",
        "change": [("held[-1, -1] = 0", "pass")],
        "fails": "test-ratings-more",
        "says": "for a rating and not for b",
    },
    {
        "task": "ratings",
        "name": "no prior",
        "change": [("held = prior *", "held = 0 *")],
        "fails": "test-ratings-more",
        "says": "plus prior times r",
    },
    {
        "task": "ratings",
        "name": "the first model is 0, not the mean",
        "change": [("found[:-1] - found[:-1].mean()", "found[:-1] - found[0]")],
        "fails": "test-ratings",
        "says": "the mean is set to 0",
    },
    {
        "task": "ratings",
        "name": "five steps downhill",
        "change": [
            ("range(50)", "range(5)"),
            ("torch.linalg.pinv(bend) @ slope", "0.01 * slope"),
        ],
        "fails": "test-ratings",
        "says": "the bonus of the first place",
    },
    # prices
    {
        "task": "prices",
        "name": "means over all prompts",
        "change": [
            ("    rows = []\n", "    rows = []\n    every = [answer for answers in prompts for answer in answers]\n"),
            ("columns = list(zip(*answers, strict=True))", "columns = list(zip(*every, strict=True))"),
            ("sum(column) / len(answers)", "sum(column) / len(every)"),
        ],
        "fails": "test-prices-more",
        "says": "that is the prompt, no price",
    },
    {
        "task": "prices",
        "name": "length alone, the truth not held fixed",
        "change": [("return per_token / determinant", "return dot(score, length) / dot(length, length)")],
        "fails": "test-prices",
        "says": "these numbers must come back",
    },
    {
        "task": "prices",
        "name": "truth first",
        "change": [
            (
                "return per_token / determinant, per_point / determinant",
                "return per_point / determinant, per_token / determinant",
            )
        ],
        "fails": "test-prices",
        "says": "0.5 a token",
    },
    {
        "task": "prices",
        "name": "no means taken away",
        "change": [("[x - mean for x, mean in zip(answer, means, strict=True)]", "list(answer)")],
        "fails": "test-prices",
        "says": "plus a constant",
    },
    {
        "task": "prices",
        "name": "a mean of the prices of the prompts",
        "code": """
def prices(prompts):
    found = []
    for answers in prompts:
        table = torch.tensor(answers, dtype=torch.float64)
        table = table - table.mean(0)
        found.append(torch.linalg.pinv(table[:, 1:]) @ table[:, 0])
    a, b = torch.stack(found).mean(0).tolist()
    return a, b
""",
        "fails": "test-prices",
        "says": "these numbers must come back",
    },
    {
        "task": "prices",
        "name": "the best fit to lengths in step with truth",
        "change": [("determinant <= 1e-9 * dot(length, length) * dot(truth, truth)", "determinant == 0.1")],
        "fails": "test-prices-more",
        "says": "division by zero",
    },
    {
        "task": "prices",
        "name": "whatever the pseudo-inverse says",
        "code": """
def prices(prompts):
    rows = []
    for answers in prompts:
        table = torch.tensor(answers, dtype=torch.float64)
        rows.append(table - table.mean(0))
    table = torch.cat(rows)
    a, b = (torch.linalg.pinv(table[:, 1:]) @ table[:, 0]).tolist()
    return a, b
""",
        "fails": "test-prices-more",
        "says": "so none is measured",
    },
]
