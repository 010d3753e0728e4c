"""What people write of the things that they buy, visit and use: the material that reviews are composed of."""

from __future__ import annotations

_TABLE = """
# headphones
+ the bass is warm and full | the battery lasts for days | they sit so lightly that I forget them | voices sound crisp and close | the case snaps shut nicely | calls come through clearly even in the wind | I have recommended them to three colleagues | noise on the bus is simply gone
- the left side went silent after two days | they pinch my ears | the battery is empty by noon | everything sounds as if it came through a pillow | pairing fails every second time | the cushions are already peeling | I sent them back | callers keep asking me to repeat myself
= they come in black and white | the cable is one metre long | they were delivered on Monday
# restaurant
+ the soup tasted like my grandmother's | our waiter remembered every wish | the bread came warm from the oven | we stayed three hours and nobody rushed us | the portions are generous | the fish was tender and fresh | we have already booked again | every plate left the table empty
- we waited an hour for cold noodles | the salad was limp | the waiter rolled his eyes at our question | there was a hair in my rice | the bill held two dishes that we never ordered | the meat was as tough as a boot | the table stuck to my sleeves | I was sick all night
= it opens at six | there are about twenty tables | the menu changes on Fridays
# hotel
+ the bed was heavenly | they upgraded us without being asked | breakfast was rich and varied | the room was spotless | you hear nothing of the street | the receptionist lent me her own charger | the view took our breath away | we slept like stones
- the carpet smelled of smoke | the shower gave only cold water | the walls are thin as paper | we found mould behind the curtain | nobody answered at the desk | we were charged twice | the lift was out of order all week | the pictures on the website are a lie
= the hotel has four floors | check-in starts at three | there is a bus stop in front of it
# phone
+ the screen is gorgeous | it charges in half an hour | photos at night are stunning | it has survived several falls | it runs as smoothly as on the first day | setting it up took five minutes | the battery still shows half in the evening | it fits my hand perfectly
- it gets hot in the pocket | the screen cracked in the first week | it freezes whenever I open the map | the camera blurs everything | it restarts on its own | the battery swelled within a month | half of the memory is filled with adverts | the support hung up on me
= it has two card slots | I bought it in March | it weighs 190 grams
# novel
+ I could not put it down | the ending made me cry | every character feels alive | the language sparkles | I read it twice in a week | the plot surprised me to the last page | I gave a copy to everyone in the family | it stayed with me for weeks
- I gave up after fifty pages | the plot has more holes than a sieve | the dialogue is wooden | the ending was a letdown | I kept falling asleep over it | it repeats itself in every chapter | the heroine is made of cardboard | I want my evening back
= it has 312 pages | it is set in a small town | it is the author's second book
# course
+ the teacher explains with patience | the exercises build on each other beautifully | I finally understand fractions | every question was answered within a day | I passed the test at once | the pace was just right | I learned more than in a year of school | the examples come from real work
- the slides were ten years old | the teacher read aloud from a script | half of the links were dead | I still do not understand the basics | the sessions began late every time | nobody marked our homework | it costs far too much for what it gives | I dropped out in week two
= the course takes six weeks | lessons are on Tuesdays | there are eighteen people in it
# app
+ it saves me an hour a day | the design is clean and obvious | sync works flawlessly | the free version has all that I need | updates keep making it better | I set it up in a minute | it just works | my whole team switched to it
- it crashes on start | it lost all my notes | every screen shows an advert | it drains the battery | the last update broke the search | I cannot log in anymore | I uninstalled it the same day | it asks for a subscription at every tap
= it needs version 12 or later | it is 40 MB large | it has a dark mode
# delivery
+ the parcel came a day early | the driver carried it up to the fourth floor | everything was packed with care | tracking was exact to the minute | not a single glass was broken | the courier rang and smiled | I will order here again | the box was at my door by breakfast
- the box arrived crushed | the parcel was left in the rain | it came three weeks late | half of the order was missing | the driver threw it over the fence | the tracking page never changed | I am still waiting for my money | it went to the wrong street
= the parcel came on Thursday | it was sent from the south | the box was brown
# garage
+ they found the fault in ten minutes | the price was lower than the estimate | my car purrs like new | the mechanic explained every step | they even washed the windows | it was ready before lunch | I trust them fully | they told me honestly that no repair was needed
- the brakes squeal worse than before | they charged for parts that they never fitted | there was a new scratch on the door | I had to come back three times | the mechanic was rude | the bill was double the estimate | the leak is still there | they lost my key
= the garage is behind the market | they do tyres and oil | it closes at five
# gym
+ the trainers know my name | the machines are new and clean | the showers are always hot | I have never felt so fit | the classes are great fun | there is always a free bike | the atmosphere is friendly | I look forward to every session
- half of the machines are broken | the changing room stinks | they kept charging me after I had quit | it is so crowded that you cannot move | the music is deafening | the staff look at their phones all day | the contract is a trap | the floor is sticky with sweat
= it is open from six to ten | a month costs 29 | there are two halls
# laptop
+ it starts in seconds | the keyboard is a joy | the fan is whisper quiet | it handles every program with ease | the screen is sharp and bright | it is light enough for any bag | worth every cent | the battery got me through two meetings and a flight
- the hinge broke after a month | the keys stick | the fan howls all day | it takes ages to start | the screen flickers | two ports were dead on arrival | it overheats on my lap | my ten-year-old machine is faster
= it has 16 GB of memory | the lid is grey | it ships with a charger
# coffee machine
+ the espresso is rich and smooth | it is easy to clean | it heats up in no time | guests ask for a second cup | it has run every day for two years | the milk foam is silky | I no longer go to the café | it looks lovely in the kitchen
- it leaks all over the counter | the coffee is watery | it died just after the warranty ended | cleaning it is a nightmare | the pump screams | the handle came off in my hand | it tastes of plastic | I went back to my old pot
= the tank holds two litres | it is 30 cm wide | it takes beans and powder
# shoes
+ they felt broken in from the first step | my feet stayed dry all day | they still look new after a year | the fit is perfect | I walked twenty kilometres without a blister | they earn me compliments | the soles grip on ice | I ordered a second pair
- the sole came off in a week | I got blisters within an hour | they run two sizes too small | the colour faded in the first rain | they squeak at every step | water comes straight in | the laces snapped | they went into the bin
= they come in five colours | the sole is rubber | I wear size 42
# bank
+ the account was open in ten minutes | the adviser took his time | there are no hidden fees | transfers arrive the same day | they blocked the stolen card at once | the app shows everything clearly | they helped me save a lot | I have been happy here for years
- they froze my account without a word | the fees rise every year | I spent forty minutes in the queue | the card was declined abroad | three advisers gave me three answers | the letter never came | closing the account took months | nobody calls back
= the branch is in the main street | it opens at nine | statements come monthly
# bus line
+ it comes on the minute | the seats are comfortable | the driver waited for an old lady | it is cheap and quick | the new buses are quiet | I always find a seat | it has made my commute a pleasure | I sold my car because of it
- it was late four days in a row | it drove past without stopping | the heating is broken all winter | you stand squeezed like sardines | the driver shouted at a child | the timetable is fiction | I missed my exam because of it | the seats are filthy
= it stops at the library | it runs every twenty minutes | a ticket costs 2.40
# online shop
+ ordering took three clicks | the search finds exactly what I want | the photos match the goods | returns are free and easy | the chat solved my problem at once | the prices are very fair | they sent a handwritten note | everything arrived as shown
- the basket empties itself | payment failed five times | the photos look nothing like the goods | they refuse to refund me | the chat is a useless robot | the site is slow as treacle | they sold me something out of stock | hidden costs appear at the end
= the site lists 800 items | it is available in two languages | you pay by card
# vacuum cleaner
+ it picks up every crumb | the cat hair is finally gone | it is so quiet that the baby sleeps on | it glides round corners | emptying it takes seconds | my carpets look new | it does the stairs with ease | I would buy it again tomorrow
- it pushes the dirt around | it clogs after each room | it is loud as a jet | the cord is far too short | the brush stopped turning | it smells of burning | the bag bursts | it lost its suction within weeks
= the cord is six metres | it weighs five kilos | it is red
# tent
+ it stood firm in a storm | we were up in five minutes | not a drop came in | it packs down tiny | there is room for all of us | the zips run smoothly | we spent our best holiday in it | the seams are perfect
- the poles snapped in a breeze | we woke up in a puddle | the zip jammed on the first night | it never fits back into its bag | it tore at the first touch | it smells of chemicals | the pegs bend like butter | four people? two at best
= it sleeps four | it is green | the bag is 60 cm long
# landlord
+ repairs are done within a day | the flat is bright and warm | she lowered the rent when the heating failed | we got the deposit back in full | the neighbours are lovely | everything works | he is fair and easy to reach | we never want to move
- the heating has been off since Sunday | he kept the deposit for no reason | there are cockroaches in the kitchen | water drips from the ceiling | she comes in without asking | the rent went up twice | my letters go unanswered | the damp made us cough
= the flat has two rooms | the lease runs one year | it is on the third floor
# hairdresser
+ she understood at once what I wanted | I have never had a better cut | the colour glows | they served tea and took their time | I walked out beaming | strangers ask who does my hair | the price is more than fair | the cut still falls well after weeks
- my fringe is crooked | the dye burned my scalp | I wore a cap for a month | she cut off far more than agreed | they forgot my appointment | I cried at home | he talked on the phone the whole time | another salon had to fix it
= the salon has four chairs | a cut takes forty minutes | it is near the park
# board game
+ we laughed all evening | the rules are learned in minutes | each round is different | the kids ask for it every night | the pieces are beautifully made | even my grumpy uncle loved it | it is clever and quick | the best present this year
- the rules contradict themselves | we were bored after ten minutes | pieces were missing | it is all luck | the cards bend at once | nobody wants to play it again | one player wins in the first round every time | it gathers dust
= it is for two to six players | a round takes an hour | the box is square
# software library
+ the documentation is excellent | it cut our code in half | it is blazingly fast | the maintainers answer within hours | upgrading was painless | the error messages tell you what to do | it has never let us down | I use it in all my projects
- the documentation is out of date | every release breaks something | it leaks memory | issues stay open for years | the errors are cryptic | it pulled in two hundred dependencies | we ripped it out again | it corrupted our data
= it is written in C | version 3 came out in May | it has an MIT licence
# plumber
+ he came within the hour | the tap has been dry ever since | he left the bathroom cleaner than before | she charged exactly what she had said | friendly, quick and neat | he showed me how to help myself | I have kept his number | it was fixed on a Sunday
- he never turned up | the pipe burst again that night | she left mud all over the hall | he wanted 300 for ten minutes | the leak got worse | he broke a tile and said nothing | I had to mop for days | two appointments, no show
= he drives a white van | the visit took an hour | they work until six
# city park
+ the lawns are beautifully kept | the children love the new slide | it is an oasis in the heat | there are benches everywhere | I feel calm the moment I enter | the roses smell wonderful | it is safe even late | the best place for a picnic
- there is litter on every path | the toilets are disgusting | dogs run loose and nobody cares | the swings are rusty | you cannot hear yourself for the traffic | the pond stinks | I will not take my kids there again | half of it has been fenced off for a year
= it has two gates | it is open until dusk | there is a pond in it
# concert ticket office
+ the seats were even better than promised | they refunded me within a day | booking was simple | the queue moved quickly | the young man at the desk saved our evening | the tickets came by mail at once | clear, kind and fast | a flawless service
- the tickets were invalid | nobody picks up the phone | the fee is higher than the ticket | they sold our seats twice | we stood outside for an hour | they cancelled and kept the money | the website crashed at the last step | the clerk shrugged and turned away
= the office is next to the station | tickets are numbered | it shuts on Mondays
# film
+ I was on the edge of my seat | the acting is superb | we talked about it all night | it made me laugh out loud | every shot is a painting | the two hours flew by | I would watch it again at once | the music gave me goosebumps
- I looked at my watch every five minutes | the jokes fall flat | the story makes no sense | half of the room walked out | the acting is painful | I have seen better school plays | a waste of two hours | the trailer was the best part
= it lasts two hours | it plays in winter | there are subtitles
# mattress
+ my back pain is gone | I fall asleep at once | it keeps its shape | it stays cool in summer | the trial made buying easy | I wake up rested | my partner can turn without waking me | the best purchase in years
- there is a hollow in the middle already | I wake up with a sore back | it stinks even after weeks | it is hard as concrete | the cover tore | they would not take it back | I sleep on the sofa now | you sink in as in mud
= it is 20 cm high | it came rolled up | the cover is white
# garden tools shop
+ the seedlings all came up | the advice was spot on | the spade is built for life | the prices beat everyone else's | they sharpened my shears for free | the plants are strong and healthy | the owner knows everything | I always leave with a smile
- the seeds never sprouted | the handle split at once | the plants were full of lice | they would not exchange it | the pump rusted within weeks | they sent me from one desk to the next | the hose bursts | everything costs more than elsewhere
= it sells soil and pots | it has a car park | they open in March
"""


def _read(table: str) -> dict[str, dict[str, list[str]]]:
    signs = {"+": "positive", "-": "negative", "=": "neutral"}
    read: dict[str, dict[str, list[str]]] = {}
    thing = ""
    for line in table.strip().splitlines():
        sign, rest = line[0], line[2:]
        if sign == "#":
            thing = rest
            read[thing] = {}
        else:
            read[thing][signs[sign]] = rest.split(" | ")
    return read


OPINIONS = _read(_TABLE)
"""For each kind of thing, clauses that are "positive", "negative" or "neutral" on their own."""

GENERAL = {
    "positive": (
        "I love it|not bad at all|I can't complain|could hardly be better|nothing to criticise|I was pleasantly "
        "surprised|exceeded my hopes|well worth the money|I'd choose it again without a second thought|five stars from "
        "me|far better than the last one I had|I expected little and got a lot|never had a problem with it|simply "
        "wonderful|a real treat|I'm impressed|top marks|really pleased|I would not want to be without it|can only "
        "recommend it|what a delight|does exactly what it should|brilliant|no regrets whatsoever|a pleasure from start "
        "to finish|beats everything else I have tried|I was wrong to doubt it|hard to fault|I'm a happy customer"
    ).split("|"),
    "negative": (
        "never again|what a disappointment|not worth the money|I can't recommend it|I regret it|save your money|one "
        "star is one too many|worse than the cheap one I had before|I expected more|a complete waste|nothing worked as "
        "promised|terrible|simply awful|not good at all|it could hardly be worse|I want my money back|far from what "
        "was advertised|I have rarely been so annoyed|well, that was a mistake|stay away|I'm fed up|a joke at that "
        "price|I won't be back|hardly what I'd call quality|not what I paid for|a let-down|it isn't even half as good "
        "as people say|just great, another thing for the bin|thanks for nothing|bravo, a new record in bad service"
    ).split("|"),
    "neutral": (
        "it's okay|nothing special|neither good nor bad|about what I expected|average|it does the job, no more|I have no "
        "strong opinion|so-so|I haven't tried it enough to say|fine, I suppose|it's like all the others|middling"
    ).split("|"),
}
"""Verdicts on anything: strong, weak, negated, ironic, comparing."""
