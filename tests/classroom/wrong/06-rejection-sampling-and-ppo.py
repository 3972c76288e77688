"""Typical wrong answers to problem set 6: what is changed in the right one, which test stops, and what it must say."""

WRONG = [
    # choice
    {
        "task": "choice",
        "name": "ends are ignored, like the library",
        "change": [("[i for i in range(n) if ended[i]]", "list(range(n))")],
        "fails": "test-choice",
        "says": "one of the two has no end",
    },
    {
        "task": "choice",
        "name": "cut answers are not drawn either",
        "change": [("below = n - len(complete)", "n, below = len(complete), 0")],
        "fails": "test-choice",
        "says": "half of the draws of one teach nothing",
    },
    {
        "task": "choice",
        "name": "nothing is learnt if the best one was cut",
        "change": [
            ("    below = n - len(complete)  # cut answers are below all others\n", "    below = 0\n"),
            ("nothing * math.comb(below, k) / math.comb(n, k)", "0.0"),
            ("[truth[i] for i in complete if", "[truth[i] if ended[i] else nothing for i in range(n) if"),
            ("for i in complete})", "for i in range(n)})"),
        ],
        "fails": "test-choice",
        "says": "so the best of all five is that of reward 4",
    },
    {
        "task": "choice",
        "name": "drawn with replacement",
        "change": [
            ("math.comb(below + len(equal), k) - math.comb(below, k)", "(below + len(equal)) ** k - below**k"),
            ("draws / math.comb(n, k)", "draws / n**k"),
            ("nothing * math.comb(below, k) / math.comb(n, k)", "nothing * (below / n) ** k"),
        ],
        "fails": "test-choice",
        "says": "1, 2, 3 and 4 of the 10 pairs",
    },
    {
        "task": "choice",
        "name": "the last of equals, like the library",
        "change": [("sum(equal) / len(equal)", "equal[-1]")],
        "fails": "test-choice-more",
        "says": "chosen by lot",
    },
    {
        "task": "choice",
        "name": "the best of equals",
        "change": [("sum(equal) / len(equal)", "max(equal)")],
        "fails": "test-choice-more",
        "says": "chosen by lot",
    },
    {
        "task": "choice",
        "name": "the truth chooses",
        "change": [("    n = len(rewards)", "    rewards = truth\n    n = len(rewards)")],
        "fails": "test-choice",
        "says": "ranks 2 to 5 win",
    },
    {
        "task": "choice",
        "name": "the lowest reward",
        "change": [("for i in complete}):", "for i in complete}, reverse=True):")],
        "fails": "test-choice",
        "says": "ranks 2 to 5 win",
    },
    {
        "task": "choice",
        "name": "the first k of the list",
        "code": """
def expected_choice(rewards, truth, ended, k, nothing=0.0):
    if not 1 <= k <= len(rewards):
        raise ValueError(k)
    live = [i for i in range(k) if ended[i]]
    return truth[max(live, key=lambda i: rewards[i])] if live else nothing
""",
        "fails": "test-choice",
        "says": "the mean of the true scores",
    },
    {
        "task": "choice",
        "name": "all draws visited",
        "code": """
def expected_choice(rewards, truth, ended, k, nothing=0.0):
    if not 1 <= k <= len(rewards):
        raise ValueError(k)
    total, n = 0.0, 0
    for draw in itertools.combinations(range(len(rewards)), k):
        live = [i for i in draw if ended[i]]
        top = [truth[i] for i in live if rewards[i] == max(rewards[j] for j in live)]
        total, n = total + (sum(top) / len(top) if top else nothing), n + 1
    return total / n
""",
        "fails": "test-choice-more",
        "says": "timed out",
    },
    {
        "task": "choice",
        "name": "any k",
        "change": [("if not 1 <= k <= n:", "if k < 0:")],
        "fails": "test-choice-more",
        "says": "a silent 0",
    },
    # exact
    {
        "task": "exact",
        "name": "the order of the rewards is lost",
        "change": [
            (
                "            for i in members:  # who of a level is drawn goes by p\n                q[i]",
                "            for i in members:\n"
                "                q[sorted(range(len(p)), key=lambda i: rewards[i]).index(i)]",
            )
        ],
        "fails": "test-exact",
        "says": "only if both draws are it",
    },
    {
        "task": "exact",
        "name": "the first of equals takes all",
        "change": [
            ("q[i] = ((below + mass) ** k - below**k) * p[i] / mass", "q[members[0]] = (below + mass) ** k - below**k")
        ],
        "fails": "test-exact",
        "says": "so each keeps its probability",
    },
    {
        "task": "exact",
        "name": "equals share evenly",
        "change": [("* p[i] / mass", "/ len(members)")],
        "fails": "test-exact",
        "says": "so each keeps its probability",
    },
    {
        "task": "exact",
        "name": "the worst of k",
        "change": [("for level in sorted(set(rewards)):", "for level in sorted(set(rewards), reverse=True):")],
        "fails": "test-exact",
        "says": "only if both draws are it",
    },
    {
        "task": "exact",
        "name": "weighed by the power k",
        "change": [
            ("((below + mass) ** k - below**k) * p[i] / mass", "p[i] * k * (below + mass) ** (k - 1)"),
            ("    return q\n", "    return [x / sum(q) for x in q]\n"),
        ],
        "fails": "test-exact",
        "says": "only if both draws are it",
    },
    {
        "task": "exact",
        "name": "0 ln 0 stops the run",
        "change": [(" if a > 0)", ")")],
        "fails": "test-exact",
        "says": "The test was: nats, wins",
    },
    {
        "task": "exact",
        "name": "0 / 0 for what never comes",
        "change": [("if mass > 0:", "if True:")],
        "fails": "test-exact-more",
        "says": "division by zero",
    },
    {
        "task": "exact",
        "name": "the divergence the other way",
        "change": [
            (
                "a * math.log(a / b) for a, b in zip(q, p, strict=True) if a > 0",
                "b * math.log(b / max(a, 1e-12)) for a, b in zip(q, p, strict=True)",
            ),
        ],
        "fails": "test-exact",
        "says": "a sure answer from a coin",
    },
    {
        "task": "exact",
        "name": "bits in place of nats",
        "change": [("math.log(a / b)", "math.log2(a / b)")],
        "fails": "test-exact",
        "says": "1 ln (1 / 0.5)",
    },
    {
        "task": "exact",
        "name": "ties are lost",
        "change": [("((mine > other) + (mine == other) / 2)", "(mine > other)")],
        "fails": "test-exact",
        "says": "which counts half",
    },
    # reward
    {
        "task": "reward",
        "name": "the threshold is compared with the logit",
        "change": [("threshold = math.log(0.15 / 0.85)", "threshold = 0.15")],
        "fails": "test-reward",
        "says": "a logit of -1.735",
    },
    {
        "task": "reward",
        "name": "probabilities are returned",
        "change": [
            ("[s if risky", "[1 / (1 + math.exp(-x)) for x in [s if risky"),
            ("zip(helpful, safe, tagged, strict=True)]", "zip(helpful, safe, tagged, strict=True)]]"),
        ],
        "fails": "test-reward",
        "says": "all as logits",
    },
    {
        "task": "reward",
        "name": "the tag is ignored",
        "change": [("if risky or s < threshold", "if s < threshold")],
        "fails": "test-reward",
        "says": "where the prompt is tagged",
    },
    {
        "task": "reward",
        "name": "the lower of the two",
        "change": [("s if risky or s < threshold else h", "min(h, s)")],
        "fails": "test-reward",
        "says": "helpfulness where the answer is safe enough",
    },
    {
        "task": "reward",
        "name": "through the sigmoid, clamped like the library",
        "change": [
            (
                "[s if risky or s < threshold else h for",
                "[round(min(max(s if risky or s < threshold else h, -16.118), 16.118), 9) for",
            )
        ],
        "fails": "test-reward-more",
        "says": "a better answer must stay better",
    },
    {
        "task": "reward",
        "name": "each rollout by itself, like the library",
        "change": [("number, mean, squares = state or (0, 0.0, 0.0)", "number, mean, squares = 0, 0.0, 0.0")],
        "fails": "test-reward",
        "says": "two excellent answers are both praised",
    },
    {
        "task": "reward",
        "name": "by what was seen before, without the new ones",
        "change": [
            (
                "[(r - mean) / math.sqrt(squares / number + 1e-8) for r in rewards], (",
                "[(r - (state or (0, mean))[1]) / math.sqrt((state[2] / state[0] if state else squares / number)"
                " + 1e-8) for r in rewards], (",
            )
        ],
        "fails": "test-reward",
        "says": "of 1, 3, 8, 8",
    },
    {
        "task": "reward",
        "name": "number minus one",
        "change": [("squares / number + 1e-8", "squares / max(number - 1, 1) + 1e-8")],
        "fails": "test-reward",
        "says": "mean 2, variance 1",
    },
    {
        "task": "reward",
        "name": "the means of the groups do not count",
        "change": [(" + (new_mean - mean) ** 2 * number * new / (number + new)", "")],
        "fails": "test-reward",
        "says": "the variance 9.5",
    },
    {
        "task": "reward",
        "name": "a sum of squares",
        "code": """
def combined_logits(helpful, safe, tagged):
    return [s if risky or s < math.log(0.15 / 0.85) else h for h, s, risky in zip(helpful, safe, tagged)]


def whiten_so_far(rewards, state=None):
    n, total, squares = state or (0, 0.0, 0.0)
    n, total = n + len(rewards), total + sum(rewards)
    squares += sum(r * r for r in rewards)
    variance = max(squares / n - (total / n) ** 2, 0)
    return [(r - total / n) / math.sqrt(variance + 1e-8) for r in rewards], (n, total, squares)
""",
        "fails": "test-reward-more",
        "says": "lose the differences",
    },
    {
        "task": "reward",
        "name": "all rewards are kept",
        "code": """
def combined_logits(helpful, safe, tagged):
    return [s if risky or s < math.log(0.15 / 0.85) else h for h, s, risky in zip(helpful, safe, tagged)]


def whiten_so_far(rewards, state=None):
    every = [*(state or []), *rewards]
    mean = sum(every) / len(every)
    variance = sum((r - mean) ** 2 for r in every) / len(every)
    return [(r - mean) / math.sqrt(variance + 1e-8) for r in rewards], every
""",
        "fails": "test-reward-more",
        "says": "hundreds of rollouts",
    },
    # advantages
    {
        "task": "advantages",
        "name": "nothing behind a cut, like the library",
        "change": [("0.0 if behind is None else behind", "0.0")],
        "fails": "test-advantages",
        "says": "none is blamed",
    },
    {
        "task": "advantages",
        "name": "an advantage behind the cut",
        "change": [
            (
                "following, advantage = 0.0 if behind is None else behind, 0.0",
                "following, advantage = behind or 0.0, behind or 0.0",
            )
        ],
        "fails": "test-advantages",
        "says": "none is blamed",
    },
    {
        "task": "advantages",
        "name": "from the end of the row",
        "change": [("reversed(range(length))", "reversed(range(rewards.shape[1]))")],
        "fails": "test-advantages-more",
        "says": "0 times nan is nan",
    },
    {
        "task": "advantages",
        "name": "the padding times 0",
        "code": """
def advantages(rewards, values, lengths, after, gamma=1.0, lam=0.95):
    mask = torch.arange(rewards.shape[1]) < torch.tensor(lengths)[:, None]
    rewards, values = rewards * mask, torch.cat([values * mask, torch.zeros(len(values), 1)], 1)
    for i, behind in enumerate(after):
        values[i, lengths[i]] = behind or 0.0
    found, last = torch.zeros_like(rewards), 0.0
    for t in reversed(range(rewards.shape[1])):
        last = (rewards[:, t] + gamma * values[:, t + 1] - values[:, t] + gamma * lam * last) * mask[:, t]
        found[:, t] = last
    return found, (found + values[:, :-1]) * mask
""",
        "fails": "test-advantages-more",
        "says": "0 times nan is nan",
    },
    {
        "task": "advantages",
        "name": "lambda without gamma",
        "change": [("gamma * lam * advantage", "lam * advantage")],
        "fails": "test-advantages-more",
        "says": "gamma 0.9, lambda 0.8",
    },
    {
        "task": "advantages",
        "name": "what is behind the cut is not discounted",
        "change": [
            ("0.0 if behind is None else behind, 0.0", "0.0 if behind is None else behind / gamma, 0.0"),
        ],
        "fails": "test-advantages-more",
        "says": "gamma discounts what is behind the cut, too",
    },
    {
        "task": "advantages",
        "name": "returns without the value",
        "change": [("advantage, advantage + value", "advantage, advantage")],
        "fails": "test-advantages",
        "says": "plus the value of the same token",
    },
    {
        "task": "advantages",
        "name": "the value of the token itself comes next",
        "change": [("            following = value\n", "")],
        "fails": "test-advantages",
        "says": "the surprises of the first answer",
    },
    {
        "task": "advantages",
        "name": "in place of the rewards",
        "change": [
            (
                "torch.zeros_like(rewards), torch.zeros_like(rewards)",
                "rewards, torch.zeros_like(rewards)",
            ),
            (
                "    return found, returns",
                "    for i, length in enumerate(lengths):\n        found[i, length:] = 0\n    return found, returns",
            ),
        ],
        "fails": "test-advantages-more",
        "says": "left as they were",
    },
    # loss
    {
        "task": "loss",
        "name": "the same range on both sides, like the library",
        "change": [("min(max(ratio, 1 - low), 1 + high)", "min(max(ratio, 1 - low), 1 + low)")],
        "fails": "test-loss",
        "says": "1 + high = 1.3",
    },
    {
        "task": "loss",
        "name": "clipped without the minimum",
        "change": [
            ("min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a)", "min(max(ratio, 1 - low), 1 + high) * a")
        ],
        "fails": "test-loss",
        "says": "what went the wrong way is never clipped",
    },
    {
        "task": "loss",
        "name": "the sign of a gain",
        "change": [("return -sum(means) / len(means)", "return sum(means) / len(means)")],
        "fails": "test-loss",
        "says": "the loss is minus that",
    },
    {
        "task": "loss",
        "name": "the ratio upside down",
        "change": [("math.exp(n - o)", "math.exp(o - n)")],
        "fails": "test-loss",
        "says": "became twice as likely",
    },
    {
        "task": "loss",
        "name": "the mean over all tokens, like the library",
        "change": [
            ("means.append(sum(terms) / len(terms))", "means += terms"),
        ],
        "fails": "test-loss-more",
        "says": "mean of two answers, not of 4 tokens",
    },
    {
        "task": "loss",
        "name": "slopes of the plain ratio, never clipped",
        "change": [(" if still_paid else 0.0", "")],
        "fails": "test-loss-more",
        "says": "0 only where the ratio has left the range",
    },
    {
        "task": "loss",
        "name": "no slope anywhere outside the range",
        "change": [("ratio < 1 + high if a > 0 else ratio > 1 - low", "1 - low < ratio < 1 + high")],
        "fails": "test-loss-more",
        "says": "in the direction that pays",
    },
    {
        "task": "loss",
        "name": "slopes with respect to the ratio",
        "change": [("-ratio * a / len(rows[0])", "-a / len(rows[0])")],
        "fails": "test-loss-more",
        "says": "-ratio x advantage",
    },
    {
        "task": "loss",
        "name": "slopes that are not shared",
        "change": [(" / len(rows[0]) / len(new)", "")],
        "fails": "test-loss",
        "says": "shared by the two tokens",
    },
    # alarm
    {
        "task": "alarm",
        "name": "the run's own mask is believed",
        "change": [
            ('real = torch.arange(run["old"].shape[1]) < lengths[:, None]', 'real = run["mask"]'),
            ('not torch.equal(run["mask"], real)', 'run["mask"].sum(1).tolist() != run["lengths"]'),
        ],
        "fails": "test-alarm",
        "says": "a mask that leaves out the last token",
    },
    {
        "task": "alarm",
        "name": "the mask is only counted",
        "change": [('not torch.equal(run["mask"], real)', 'run["mask"].sum(1).tolist() != run["lengths"]')],
        "fails": "test-alarm-more",
        "says": "a mask of the right size can lie at the wrong place",
    },
    {
        "task": "alarm",
        "name": "the mean ratio",
        "change": [
            ('.exp() - 1).abs().max() > 1e-4,\n        "rows"', '.exp() - 1).mean().abs() > 1e-3,\n        "rows"')
        ],
        "fails": "test-alarm-more",
        "says": "one ratio of 1.001",
    },
    {
        "task": "alarm",
        "name": "PAD is paid, too",
        "change": [('torch.where(real, run["rewards"], 0.0)', 'run["rewards"]')],
        "fails": "test-alarm",
        "says": "over the tokens",
    },
    {
        "task": "alarm",
        "name": "no penalty in the sum",
        "change": [('run["scores"] - run["beta"] * penalty', 'run["scores"]')],
        "fails": "test-alarm",
        "says": "rings all the time",
    },
    {
        "task": "alarm",
        "name": "nan times the mask",
        "change": [
            ('torch.where(real, run["old"] - run["reference"], 0.0)', '((run["old"] - run["reference"]) * real)'),
            ('.abs().max() > 1e-4,\n        "surprise"', '.abs().max() <= 1e-4,\n        "surprise"'),
            ('"rows": (paid', '"rows": not (paid'),
        ],
        "fails": "test-alarm-more",
        "says": "what is no token is not looked at",
    },
    {
        "task": "alarm",
        "name": "any difference is a surprise",
        "change": [("4 * surprise.std() / math.sqrt(len(surprise))", "0.02")],
        "fails": "test-alarm",
        "says": "rings all the time",
    },
    {
        "task": "alarm",
        "name": "four standard deviations",
        "change": [("4 * surprise.std() / math.sqrt(len(surprise))", "4 * surprise.std()")],
        "fails": "test-alarm-more",
        "says": "less surprised than its entropy says",
    },
    {
        "task": "alarm",
        "name": "one standard error",
        "change": [("4 * surprise.std()", "surprise.std()")],
        "fails": "test-alarm",
        "says": "rings all the time",
    },
    {
        "task": "alarm",
        "name": "surprise by ratio to the reference",
        "change": [('-run["old"] - run["entropy"]', '-run["reference"] - run["entropy"]')],
        "fails": "test-alarm",
        "says": "rings all the time",
    },
]
