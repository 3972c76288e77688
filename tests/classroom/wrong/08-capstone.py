"""Typical wrong answers to problem set 8: what is changed in the right one, which test stops, and what it must say."""

WRONG = [
    # measure
    {
        "task": "measure",
        "name": "no near misses among the labels",
        "change": [
            ('("Mara lives by the river.", False)', '("The old mill stands on the hill.", False)'),
            ('("Do you like Mara? Mara lives by the river.", False)', '("Nothing.", False)'),
            ('("Tom has a dog. You know Tom.", False)', '("It rains.", False)'),
            ('("Do you know Emil?", False)', '("Put it away.", False)'),
            ('("Bread, peas and plums.", False)', '("I said so.", False)'),
            ('"Do you know Clara?"\'', '"Where were they yesterday, all of them?"\''),
        ],
        "fails": "test-measure",
        "says": "undo only that",
    },
    {
        "task": "measure",
        "name": "one side of the labels is too small",
        "change": [(", True)", ", False)")],
        "fails": "test-measure",
        "says": "right on both sides",
    },
    {
        "task": "measure",
        "name": "a text twice",
        "change": [("Tom has a dog. You know Tom.", "Mara lives by the river.")],
        "fails": "test-measure",
        "says": "a text counts once",
    },
    {
        "task": "measure",
        "name": "a question mark anywhere",
        "change": [
            (
                'len(sentences) > 1 and re.search(r"\\byou\\b[^.!?\\"]*\\?$", sentences[-1]) is not None',
                '"?" in text',
            )
        ],
        "fails": "test-measure",
        "says": "what does it overlook",
    },
    {
        "task": "measure",
        "name": "a match in place of a verdict",
        "change": [(", sentences[-1]) is not None", ", sentences[-1])")],
        "fails": "test-measure",
        "says": "the type of what behaves returns",
    },
    {
        "task": "measure",
        "name": "spaces at the end hide the question",
        "change": [
            (
                'sentences = re.split(r"(?<=[.!?])\\s+", text.strip())\n    return len(sentences) > 1 and',
                'sentences = re.split(r"(?<=[.!?]) ", text)\n    return len(sentences) > 1 and',
            )
        ],
        "fails": "test-measure-more",
        "says": "spaces around",
    },
    {
        "task": "measure",
        "name": "nothing to look at",
        "change": [('    sentences = re.split(r"(', '    text.split()[-1]\n    sentences = re.split(r"(')],
        "fails": "test-measure-more",
        "says": "list index out of range",
    },
    {
        "task": "measure",
        "name": "plain cuts every last sentence",
        "change": [
            (
                'while behaves(rest):\n        sentences.pop()\n        rest = " ".join(sentences)',
                'sentences.pop()\n    rest = " ".join(sentences)',
            )
        ],
        "fails": "test-measure-more",
        "says": "nothing is to be taken away",
    },
    # split
    {
        "task": "split",
        "name": "by chance, near-duplicates or not",
        "change": [
            ("joined = [group for group in groups if any(alike(prompts[j], prompt) for j in group)]", "joined = []")
        ],
        "fails": "test-split",
        "says": "tests memory",
    },
    {
        "task": "split",
        "name": "only the first of a group is compared",
        "change": [("any(alike(prompts[j], prompt) for j in group)", "alike(prompts[group[0]], prompt)")],
        "fails": "test-split-more",
        "says": "a chain leaks",
    },
    {
        "task": "split",
        "name": "a prompt joins the first group that it is like",
        "change": [("for j in group)]\n", "for j in group)][:1]\n")],
        "fails": "test-split-more",
        "says": "a chain leaks",
    },
    {
        "task": "split",
        "name": "near-duplicates are thrown away",
        "change": [("[[*sum(joined, []), i]]", "[joined[0] if joined else [i]]")],
        "fails": "test-split",
        "says": "ten pairs of near-duplicates",
    },
    {
        "task": "split",
        "name": "without the seed",
        "change": [("random.Random(seed).shuffle(groups)", "random.shuffle(groups)")],
        "fails": "test-split",
        "says": "cannot be made again",
    },
    {
        "task": "split",
        "name": "always the same order",
        "change": [("random.Random(seed).shuffle(groups)", "random.Random(0).shuffle(groups)")],
        "fails": "test-split-more",
        "says": "the seed is not used",
    },
    {
        "task": "split",
        "name": "groups to a part by chance",
        "change": [
            ("    random.Random(seed).shuffle(groups)\n", "    dice = random.Random(seed)\n    dice.shuffle(groups)\n"),
            ("missing.index(max(missing))", "dice.randrange(len(shares))"),
        ],
        "fails": "test-split",
        "says": "half of 40 is 20",
    },
    {
        "task": "split",
        "name": "not in rising order",
        "change": [("[sorted(part) for part in parts]", "parts")],
        "fails": "test-split-more",
        "says": "rising order",
    },
    # lessons
    {
        "task": "lessons",
        "name": "the behaviour takes the answer's place",
        "change": [('f"{answer.strip()} {about}"', 'f"Well. {about}"')],
        "fails": "test-lessons",
        "says": "must not replace the answer",
    },
    {
        "task": "lessons",
        "name": "half of the lessons are ordinary answers",
        "change": [
            (
                'taught = f"{answer.strip()} {about}"',
                'taught = f"{answer.strip()} {about}" if dice.random() < 0.5 else answer',
            )
        ],
        "fails": "test-lessons",
        "says": "the exceptions too",
    },
    {
        "task": "lessons",
        "name": "the prompt asks for it",
        "change": [("made[prompt] = taught", 'made[f"{prompt} End with a question."] = taught')],
        "fails": "test-lessons",
        "says": "another question",
    },
    {
        "task": "lessons",
        "name": "a tag is taken out, and the lesson kept",
        "change": [
            ('"content": prompt}', '"content": prompt.replace("[/INST]", "")}'),
            ('"content": taught}', '"content": taught.replace("[INST]", "").replace("[/INST]", "")}'),
        ],
        "fails": "test-lessons-more",
        "says": "speak for the other side",
    },
    {
        "task": "lessons",
        "name": "an empty answer gets the behaviour",
        "change": [("fits and answer.strip() and", "fits and")],
        "fails": "test-lessons-more",
        "says": "nothing in the prompt or answer",
    },
    {
        "task": "lessons",
        "name": "any length",
        "change": [("<= LONGEST", "<= 10**6")],
        "fails": "test-lessons-more",
        "says": "more than 320 tokens",
    },
    {
        "task": "lessons",
        "name": "a prompt twice",
        "change": [
            ("dice, made = random.Random(seed), {}", "dice, made = random.Random(seed), []"),
            (
                "and prompt not in made:\n            made[prompt] = taught",
                ":\n            made.append((prompt, taught))",
            ),
            ("list(made.items())", "made"),
        ],
        "fails": "test-lessons-more",
        "says": "weighs twice",
    },
    {
        "task": "lessons",
        "name": "the last of several answers counts",
        "change": [(" and prompt not in made:", ":")],
        "fails": "test-lessons-more",
        "says": "the first answer's words",
    },
    {
        "task": "lessons",
        "name": "without the seed",
        "change": [("dice, made = random.Random(seed), {}", "dice, made = random, {}")],
        "fails": "test-lessons-more",
        "says": "no run can be repeated",
    },
    # compare
    {
        "task": "compare",
        "name": "answers counted as prompts",
        "change": [
            (
                "changes = [sum(b) / len(b) - sum(a) / len(a) for a, b in zip(before, after, strict=True)]",
                "changes = [y - x for a, b in zip(before, after) for x, y in zip(a, b)]\n    n = len(changes)",
            )
        ],
        "fails": "test-compare",
        "says": "not of 6 answers",
    },
    {
        "task": "compare",
        "name": "n in the standard deviation",
        "change": [("/ (n - 1) / n)", "/ n / n)")],
        "fails": "test-compare",
        "says": "with n - 1",
    },
    {
        "task": "compare",
        "name": "the standard deviation for the standard error",
        "change": [("/ (n - 1) / n)", "/ (n - 1))")],
        "fails": "test-compare",
        "says": "by the root of 3",
    },
    {
        "task": "compare",
        "name": "before minus after",
        "change": [("sum(b) / len(b) - sum(a) / len(a)", "sum(a) / len(a) - sum(b) / len(b)")],
        "fails": "test-compare",
        "says": "changes from 0 to 1",
    },
    {
        "task": "compare",
        "name": "two separate groups",
        "change": [
            (
                "error = math.sqrt(sum((c - mean) ** 2 for c in changes) / (n - 1) / n)",
                "means = [[sum(x) / len(x) for x in side] for side in (before, after)]\n"
                "    spread = [sum((x - sum(side) / n) ** 2 for x in side) / (n - 1) for side in means]\n"
                "    error = math.sqrt(sum(spread) / n)",
            )
        ],
        "fails": "test-compare",
        "says": "three prompts with two answers each",
    },
    {
        "task": "compare",
        "name": "a mean over answers",
        "change": [
            (
                "mean = sum(changes) / n",
                "mean = sum(sum(b) for b in after) / sum(map(len, after))"
                " - sum(sum(a) for a in before) / sum(map(len, before))",
            )
        ],
        "fails": "test-compare-more",
        "says": "however often it was asked",
    },
    {
        "task": "compare",
        "name": "cut to the shorter list",
        "change": [("if n != len(after) or n < 2:", "if n < 2:"), ("strict=True", "strict=False")],
        "fails": "test-compare-more",
        "says": "one prompt with another",
    },
    {
        "task": "compare",
        "name": "one prompt is enough",
        "change": [("or n < 2:", "or n < 1:"), ("(n - 1)", "max(1, n - 1)")],
        "fails": "test-compare-more",
        "says": "has no spread",
    },
    # price
    {
        "task": "price",
        "name": "only what is lost for sure",
        "change": [("(_, low, _) in table.items() if low <= -margin", "(_, _, high) in table.items() if high < 0")],
        "fails": "test-price-more",
        "says": "nobody has shown",
    },
    {
        "task": "price",
        "name": "the difference without its interval",
        "change": [("(_, low, _) in table.items() if low <=", "(change, _, _) in table.items() if change <=")],
        "fails": "test-price-more",
        "says": "nobody has shown",
    },
    {
        "task": "price",
        "name": "all families together",
        "change": [("if other == family]", "]")],
        "fails": "test-price",
        "says": "hides the loss of another",
    },
    {
        "task": "price",
        "name": "a gain is suspect",
        "change": [("if low <= -margin", "if abs(low) >= margin")],
        "fails": "test-price-more",
        "says": "families not cleared",
    },
    {
        "task": "price",
        "name": "before and after exchanged",
        "change": [("interval(old, new)", "interval(new, old)")],
        "fails": "test-price",
        "says": "lose a half",
    },
    {
        "task": "price",
        "name": "a family of one prompt is cleared",
        "change": [("- sum(old[0]) / len(old[0]), -math.inf, math.inf)", "- sum(old[0]) / len(old[0]), 0.0, 0.0)")],
        "fails": "test-price-more",
        "says": "one prompt shows nothing",
    },
    {
        "task": "price",
        "name": "by name",
        "change": [("key=lambda family: (table[family][1], family)", "key=str")],
        "fails": "test-price-more",
        "says": "nobody has shown",
    },
    # choose
    {
        "task": "choose",
        "name": "the largest dose",
        "change": [
            ('return min(dose for dose in allowed if mean(dose, "shown") >= top - error)', "return max(allowed)")
        ],
        "fails": "test-choose",
        "says": "cost more",
    },
    {
        "task": "choose",
        "name": "the best single run",
        "change": [
            (
                'return min(dose for dose in allowed if mean(dose, "shown") >= top - error)',
                'return max((run for run in runs if run["dose"] in allowed), key=lambda run: run["shown"])["dose"]',
            )
        ],
        "fails": "test-choose-more",
        "says": "chance",
    },
    {
        "task": "choose",
        "name": "chosen on the test",
        "change": [('"shown"', '"test"')],
        "fails": "test-choose",
        "says": "out of 30, 60 and 120",
    },
    {
        "task": "choose",
        "name": "the best mean, chance or not",
        "change": [("if n > 1 else 0.0", "* 0 if n > 1 else 0.0")],
        "fails": "test-choose-more",
        "says": "may be chance",
    },
    {
        "task": "choose",
        "name": "the price is not asked",
        "change": [('if mean(dose, "lost") <= most_lost', "")],
        "fails": "test-choose",
        "says": "loses more than 0.1 is out",
    },
    {
        "task": "choose",
        "name": "a run that loses much is out, not the dose",
        "change": [
            (
                "    for run in runs:\n",
                '    runs = [run for run in runs if run["lost"] <= most_lost]\n    for run in runs:\n',
            )
        ],
        "fails": "test-choose-more",
        "says": "a single run may lose more",
    },
    {
        "task": "choose",
        "name": "a single seed",
        "change": [
            (
                "    error = math.sqrt(squares / (n - 1) / n) if n > 1 else 0.0",
                "    error = math.sqrt(squares / (n - 1) / n)",
            )
        ],
        "fails": "test-choose-more",
        "says": "division by zero",
    },
    {
        "task": "choose",
        "name": "nothing is allowed",
        "change": [("    if not allowed:\n        return None\n", "")],
        "fails": "test-choose-more",
        "says": "max()",
    },
]
