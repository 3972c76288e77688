"""The words of the village (chapter 8): people, places, things, and the facts that never change.

Does: names (common, rare, held out), homes, trades, friends, favourite foods; the same for everybody, from one seed.
Does not: change; what happens in a story is in `minillama.village.world`.
Source: invented for this book.
"""

import random
from dataclasses import dataclass

WOMEN = (
    "Mara Lena Rosa Anna Ida Nora Vera Clara Tilda Greta Ella Edith Hanna Ruth Sofia Olga Julia Agnes Flora Maud "
    "Alma Berta Wilma Irene"
).split()
MEN = (
    "Tom Peter Jon Oskar Felix Hugo Emil Anton Karl Otto Max Ned Paul Simon Lucas Martin Victor Albert Hans Leo "
    "Bruno Arthur Edgar Walter"
).split()
RARE_WOMEN = "Zelda Quilla Yvaine Ottoline Thessaly Perpetua Isolde Xenia Umbra Calliope".split()
RARE_MEN = "Zebulon Quentin Ignatius Barnaby Thaddeus Leopold Ulric Fergus Crispin Evander".split()
HELD_OUT_NAMES = frozenset("Edith Maud Berta Albert Bruno Edgar Thessaly Xenia Ulric Crispin".split())

TRADES = (
    "baker miller teacher farmer smith carpenter gardener fisher weaver potter shepherd nurse cook painter tailor "
    "sailor hunter beekeeper cobbler librarian postman mason brewer barber"
).split()
FOODS = (
    "bread soup cheese honey porridge pie cake jam fish stew butter cream pancakes plums cherries pears beans "
    "mushrooms nuts dumplings carrots pickles berries toast apples oats rice noodles custard pudding sausages biscuits "
    "lentils cabbage turnips raisins waffles muffins popcorn chestnuts radishes pastries"
).split()
PETS = "dog cat goat pony parrot rabbit duck lamb hen pig donkey mouse".split()

# place: (where something is, where somebody goes)
PLACES = {
    "mill": ("at the mill", "to the mill"),
    "bakery": ("in the bakery", "to the bakery"),
    "school": ("at the school", "to the school"),
    "barn": ("in the barn", "to the barn"),
    "bridge": ("under the bridge", "to the bridge"),
    "well": ("beside the well", "to the well"),
    "market": ("at the market", "to the market"),
    "wood": ("in the wood", "into the wood"),
    "river": ("by the river", "to the river"),
    "hill": ("on the hill", "up the hill"),
    "church": ("behind the church", "to the church"),
    "garden": ("in the garden", "into the garden"),
    "orchard": ("in the orchard", "to the orchard"),
    "inn": ("at the inn", "to the inn"),
    "harbour": ("at the harbour", "down to the harbour"),
    "meadow": ("in the meadow", "into the meadow"),
    "cellar": ("in the cellar", "down into the cellar"),
    "attic": ("in the attic", "up into the attic"),
    "stable": ("in the stable", "to the stable"),
    "forge": ("at the forge", "to the forge"),
    "pond": ("beside the pond", "to the pond"),
    "library": ("in the library", "to the library"),
    "tower": ("in the tower", "to the tower"),
    "cave": ("in the cave", "to the cave"),
    "field": ("in the field", "to the field"),
    "oak": ("under the old oak", "to the old oak"),
    "gate": ("near the gate", "to the gate"),
    "square": ("in the square", "to the square"),
    "boathouse": ("in the boathouse", "to the boathouse"),
    "shed": ("behind the shed", "to the shed"),
}
HOMES = (
    "mill bakery school barn well wood river hill church orchard inn harbour meadow stable forge pond library tower "
    "square boathouse gate bridge"
).split()
THINGS = (
    "key lantern kite drum spoon hammer basket ring book map boat ball hat scarf bell cup knife rope ladder clock "
    "mirror coin flute doll letter box umbrella brush needle comb button candle blanket bucket saw chair whistle "
    "jar stone feather shell wagon wheel net stick pot broom purse watch boot glove coat flag lamp pipe picture "
    "bottle bag cart sled axe shovel rake anchor compass thimble pillow plate fork kettle barrel ribbon crown pen "
    "notebook puppet trumpet violin magnet marble bracelet necklace apron vase teapot saddle helmet shield oar sail "
    "telescope hourglass medal stamp postcard ticket"
).split()
FRAGILE = frozenset(
    "lantern kite drum spoon basket boat bell cup ladder clock mirror flute doll umbrella comb jar wagon wheel net "
    "pot broom watch flag lamp pipe picture bottle cart sled chair whistle shovel rake compass plate kettle barrel pen "
    "puppet trumpet violin marble bracelet necklace vase teapot saddle oar telescope hourglass".split()
)
MAKEABLE = frozenset(
    "kite drum spoon basket map boat ball hat scarf ladder flute doll box whistle blanket wagon net stick pot broom "
    "flag cart sled coat bag chair pillow ribbon crown notebook puppet bracelet necklace apron vase shield oar sail "
    "barrel rake".split()
)
LOOKS = (
    "red blue green yellow white black brown grey golden silver small big old new long heavy light round striped "
    "shiny wooden rusty pretty strange plain crooked dusty purple orange pink narrow wide tiny huge fine rough smooth "
    "spotted painted carved woven broad thin thick bright dark cheap precious foreign patched"
).split()
GOODS = {  # singular: plural, things that are counted
    "apple": "apples",
    "egg": "eggs",
    "loaf": "loaves",
    "nail": "nails",
    "candle": "candles",
    "onion": "onions",
    "plum": "plums",
    "cookie": "cookies",
    "stone": "stones",
    "flower": "flowers",
    "potato": "potatoes",
    "sack": "sacks",
    "cherry": "cherries",
    "coin": "coins",
    "shell": "shells",
    "carrot": "carrots",
}
NUMBERS = (
    "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
SKILLS = {  # what one person can teach another
    "swim": "swimming",
    "whistle": "whistling",
    "bake": "baking",
    "knit": "knitting",
    "read": "reading",
    "row": "rowing",
    "dance": "dancing",
    "sing": "singing",
    "paint": "painting",
    "ride": "riding",
    "sew": "sewing",
    "juggle": "juggling",
}
HAPPY = "happy glad cheerful pleased delighted content merry joyful cheery thrilled grateful overjoyed radiant".split()
SAD = "sad sorry lonely unhappy gloomy miserable ashamed worried hurt downcast tearful heartbroken wretched".split()
ANGRY = "angry cross furious bitter annoyed enraged livid irritated fuming".split()
WEATHER = (
    "sunny rainy windy foggy snowy cold warm cloudy stormy frosty quiet bright grey mild misty clear dry damp chilly "
    "golden breezy gloomy dull hot"
).split()
TIMES = "morning afternoon evening day Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
INSULTS = (
    "fool liar coward nobody thief pig donkey clown crybaby dummy weakling sneak cheat rat toad brat bore pest snob "
    "blockhead loser goose"
).split()

# Words below carry no fact: they make the text rich, and no reader checks them.
TASKS = (
    "swept the yard|carried water|chopped wood|mended the roof|fed the geese|washed the windows|peeled potatoes|"
    "stacked the firewood|painted the fence|weeded the beans|cleaned the chimney|sharpened the scythe|oiled the hinges|"
    "hung up the washing|raked the hay|ground the corn|sorted the seeds|polished the boots|wrote a letter|"
    "kneaded the dough|milked the cow|picked the grapes|pressed the cider|beat the carpets|salted the herring|"
    "plucked the wool|churned the milk|sewed on buttons|filled the lamps|dug a ditch|trimmed the hedge|"
    "counted the barrels|loaded the waggon|lit the stove|scrubbed the pans|folded the sheets|caught two trout|"
    "gathered acorns|patched the tent|planted onions|tied the vines|laid the table|read the newspaper|"
    "baked rolls|shod the horse|cut the reeds|wound the yarn|dusted the shelves|ironed a shirt|emptied the rain barrel|"
    "studied an almanac|cracked walnuts|mopped the stairs|repaired a fishing line|copied a poem|brewed peppermint tea|"
    "planed a board|tuned the piano|boiled eggs|built a scarecrow|drew a portrait|bathed the twins|bottled vinegar|"
    "collected snails|whitewashed the wall|greased the axle|knocked the snow off the roof|darned socks|"
    "measured the plank|pruned the roses|dried herbs|fetched the doctor|signed a petition|practised handwriting|"
    "hammered a horseshoe|unpacked crates|numbered the pages|tied knots|sieved the flour|pickled cucumbers|"
    "aired the mattress|glued a jug|rinsed the bottles|lifted the hatch|weighed the parcels|groomed the mare|"
    "scraped the paint off a door|sketched the steeple|replaced a hinge|untangled the string|stirred the gravy|"
    "caulked the hull|blew up a balloon|spelled long words|shelled the peas"
).split("|")
TOPICS = (
    "the weather|the harvest|the price of corn|an old ghost|the new road|a wedding|the great flood|a distant cousin|"
    "the king's visit|winter coats|the best way to fry eggs|a dream|their grandparents|the election|a comet|"
    "the broken clock|a lost sheep|the sea|bad teeth|a circus|taxes|the choir|a shipwreck|the stars|"
    "a recipe|good manners|the fair|an election poster|a wolf|the mayor's moustache|loneliness|the railway|"
    "a lawsuit|foreign countries|the museum|an inheritance|buried gold|the earthquake|geography|a play|arithmetic|"
    "the doctor's new carriage|money|Christmas|happiness|a missing chimney sweep|fashion|soap|"
    "a hermit in the hills|superstition|the best cure for hiccups|an eclipse|the postman's whiskers|volcanoes|"
    "handwriting|the rules of chess|a bankrupt count|thunder|perfume|a runaway coach|the old plague|dentistry|"
    "whether fish sleep|a bishop's funeral|umbrellas|honesty|the new bandstand|a haunted windmill"
).split("|")
SONGS = (
    "an old song|a lullaby|a march|a sea shanty|a love song|a hymn|a waltz|a silly rhyme|a round|a ballad|"
    "a carol|a hunting song|a tune without words|a spring song"
).split("|")
DREAMS = (
    "the sea|flying|a snowy mountain|a talking bear|an endless staircase|warm bread|a silver ship|the moon|a parade|"
    "an island|lost teeth|a locked door|a giant pumpkin|yellow butterflies|a desert|an orchestra|a glass palace|"
    "dancing bears|a volcano|an exam|a feast|singing whales|a tunnel|a dragon with a cold|"
    "a thousand stairs|an enormous spoon|a wolf in slippers|a market on the moon|a river of ink|paper boats|"
    "a lighthouse|being late for church|a mountain of laundry|two quarrelling kings|a door in a tree"
).split("|")
BIRDS = (
    "crow swallow sparrow owl hawk heron stork magpie swan pigeon robin woodpecker bat butterfly bee dragonfly gull "
    "blackbird raven cuckoo moth wren finch starling thrush"
).split()
BEASTS = (
    "squirrel hedgehog badger frog beetle weasel hare deer spider snail cricket lizard mole otter toad fox ant "
    "caterpillar rat snake turtle marten salamander"
).split()
CREATURES = BIRDS + BEASTS
BIRD_MOVES = "flew|circled|rested|fluttered|waited|settled|turned|vanished|appeared|drifted".split("|")
BEAST_MOVES = "crept|slept|crawled|waited|rested|hid|wandered|dug|vanished|appeared|rustled|dozed".split("|")
MOVES = sorted({*BIRD_MOVES, *BEAST_MOVES})
LOW_SPOTS = (
    "in the reeds|between the stones|in the ivy|along the wall|under the leaves|in the tall grass|by the fence|"
    "in the hedge|on the window sill|behind the woodpile|in the ditch|near the haystack|among the thistles|"
    "in the shade|along the shore|on the doorstep|in the clover|in the gutter|beside the path|among the ferns|"
    "under a bench|near the compost|behind the pigsty|on the cold stones|in the nettles|beside a puddle|"
    "among the cabbages|under the cherry trees"
).split("|")
HIGH_SPOTS = (
    "over the roofs|on a branch|across the lane|on the chimney|above the trees|on the weathercock|over the fields|"
    "high in the air|above the water|on the gatepost|over the haystacks|in the treetops|under the eaves"
).split("|")
SPOTS = LOW_SPOTS + HIGH_SPOTS
MOODS = (
    "hungry|lazy|nervous|clever|lonely|sleepy|curious|proud|stubborn|lame|young|ragged|noisy|shy|fat|thin|patient|"
    "restless|solitary|friendly|sulky|elegant|plump|fearless|absent-minded|dignified|greedy|playful|weary"
).split("|")
COLOURS = "scarlet crimson beige turquoise violet olive cream mustard lilac maroon navy silvery checked faded".split()
GARMENTS = (
    "cardigan jacket waistcoat pullover cape raincoat cloak tunic shirt sweater overall nightgown jersey poncho smock"
).split()
SHOES = "sandals slippers clogs stockings mittens suspenders buttons sleeves pockets laces patches ribbons".split()
OPINIONS = (
    "boring useful difficult wonderful dangerous silly important exciting expensive mysterious tiring charming "
    "confusing overrated delightful necessary ridiculous beautiful frightening amusing complicated harmless"
).split()
RELATIVES = (
    "uncle aunt cousin grandfather grandmother captain widow king queen duke pirate professor dancer soldier inventor "
    "stranger singer judge clerk pedlar"
).split()
DEEDS = (
    "crossed a desert|sung in the opera|climbed every tower|slept in a barrel|danced on one leg|lived on turnips|"
    "tamed a wolf|sailed round the world|never paid a bill|spoken nine languages|collected teaspoons|"
    "quarrelled with everybody|won a race|invented a washing machine|walked to the capital|kept a crocodile|"
    "married twice|written long letters|lost a fortune|eaten forty pancakes|played the trombone|painted only clouds|"
    "believed in ghosts|predicted the weather|laughed at nothing|grown a giant melon|cut hair for a living|"
    "trained fleas|forgotten every name|drunk only milk|swum across the lake|slept until Thursday|"
    "translated a cookbook|lost every bet|guarded a lighthouse|bred parrots|ridden an ostrich|refused a throne|"
    "outlived four doctors|counted every star twice|carved chess pieces|smuggled tea|climbed a glacier|"
    "taught geese to march|buried a treasure of buttons|won an argument with a bishop|sold lightning rods|"
    "hypnotised a rooster|walked backwards for a bet"
).split("|")
FESTIVALS = "fair|festival|auction|flea market|carnival|wedding|parade|bazaar|concert|picnic".split("|")
DETAILS = (  # of a thing somebody has
    "a present from an aunt|older than the church|worth a month of work|bought from a sailor|the last of its kind|"
    "made by a great-grandfather|won in a lottery|with a crack on one side|with a name scratched into it|"
    "a souvenir from the coast|the envy of the neighbours|found on a beach years ago|much too good for every day|"
    "wrapped in yellow paper|light as a feather|heavier than it looked|with a smell of lavender|"
    "a keepsake from school|the reward for a hard winter|with a tiny star on the back|not for sale at any price|"
    "ugly but useful|a prize from a contest|brought from a distant town|kept in spite of everything|"
    "repaired more than once|borrowed so long ago that nobody asked for it back|the only luxury in the house|"
    "exchanged for a sack of wool|smuggled over the border|with a dent from the great storm|"
    "a wedding present that came too late|warm to the touch"
).split("|")
SKIES = (
    "The wind turned|The clouds parted|Rain began to fall|The sun came out|Thunder rolled|Snow lay on the roofs|"
    "Smoke rose from the chimneys|A bell rang far away|The leaves were falling|Fog crept over the fields|"
    "The moon was nearly full|Frost covered the windows|A rainbow stood over the hills|Dust hung in the air|"
    "The first star appeared|The ice began to melt|Hail drummed on the barrels|The shadows grew long|"
    "The smell of hay was everywhere|Somewhere a door slammed|The street was empty|Lanterns were lit|"
    "A breeze carried the scent of lilacs|The puddles mirrored the sky|Drizzle dampened the hay|Geese passed overhead|"
    "Icicles glittered|The steeple vanished in haze|Church music drifted across|Swirling leaves filled the gutter"
).split("|")
OPENERS = (
    "Early the next morning,|A little later,|To everyone's surprise,|Before breakfast,|After a while,|"
    "All of a sudden,|As the clock struck four,|With a sigh,|That same day,|Just after sunrise,|Towards evening,|"
    "Not long after,|When the rain stopped,|Quietly,|At dusk,|As luck would have it,|By and by,|A week later,|"
    "Meanwhile,|Full of hope,|Shortly before dinner,|On the third day,|Late that night,|When the bells had stopped,|"
    "An hour later,|Around noon,|Without hurrying,|A few days later,|The next afternoon,|Just before midnight,|"
    "After a short rest,|When nobody expected it,|As it grew dark,|Between two showers,|Soon,|One Sunday,"
).split("|")
TAILS = (  # at the end of a sentence
    "while the bells rang|just before the rain|under a pale moon|as the lamps were lit|before the shops closed|"
    "long before supper|while the neighbours watched|while the kettle whistled|at the last moment|in the pouring rain|"
    "while the sun was setting|as the fog lifted|on the way home|in the afternoon light|between two thunderstorms|"
    "before anyone else was up"
).split("|")
MANNERS = (
    "quickly|quietly|happily|carefully|cheerfully|bravely|eagerly|gently|calmly|proudly|politely|silently|lazily|"
    "nervously|patiently|solemnly|hastily|gladly|awkwardly|thoughtfully|stubbornly|clumsily|shyly|briskly|dreamily|"
    "boldly|merrily|hopefully|seriously|anxiously|without haste|out of breath|wide awake|in high spirits|half asleep|"
    "deep in thought|a little late|in a hurry|with a song in mind|as if in a dream|with muddy boots|with great care|"
    "without another word"
).split("|")


@dataclass(frozen=True)
class Person:
    """One villager and the facts about them that every text respects.

    Attributes:
        name: first name, one word.
        woman: True for "she", False for "he".
        home: key of `PLACES`.
        trade, food, pet: entries of `TRADES`, `FOODS`, `PETS`.
        friend: name of the best friend.
    """

    name: str
    woman: bool
    home: str
    trade: str
    food: str
    pet: str
    friend: str


def _people(seed: int = 7) -> dict[str, Person]:
    rng = random.Random(seed)
    people = {}
    for women, men in ((WOMEN, MEN), (RARE_WOMEN, RARE_MEN)):
        names = [*women, *men]
        friends = names[:]
        rng.shuffle(friends)
        circle = dict(zip(friends, friends[1:] + friends[:1], strict=True))  # nobody is their own friend
        for name in names:
            people[name] = Person(
                name=name,
                woman=name in women,
                home=rng.choice(HOMES),
                trade=rng.choice(TRADES),
                food=rng.choice(FOODS),
                pet=rng.choice(PETS),
                friend=circle[name],
            )
    return people


PEOPLE = _people()
COMMON_NAMES = tuple(WOMEN + MEN)
RARE_NAMES = tuple(RARE_WOMEN + RARE_MEN)
