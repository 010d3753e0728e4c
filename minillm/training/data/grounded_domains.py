"""What the sources are about: things of many domains, and for each kind of thing attributes with ways to state and ask.

A line of `_ATTRIBUTES` is: kinds | key | kind of value | statements | questions, the last two divided by " / ".
"{e}" is the thing, "{v}" the value. Questions often use other words than statements: that's what is to be learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAINS = {
    "library": ("place", "the {n} library|the {n} reading room|the {n} archive"),
    "café": ("place", "Café {n}|the {n} tea house|the {n} bakery"),
    "school": ("place", "{n} School|the {n} music school|{n} College"),
    "shop": ("place", "the {n} bookshop|the {n} hardware store|the {n} toy shop"),
    "garden": ("place", "{n} Garden|the {n} greenhouse|the {n} orchard"),
    "sports": ("place", "the {n} swimming pool|the {n} tennis centre|the {n} climbing gym"),
    "office": ("place", "the {n} office|the {n} meeting room|the {n} canteen"),
    "real estate": ("place", "the {n} apartment block|{n} House|the {n} studio"),
    "campsite": ("place", "{n} Campsite|the {n} hostel|Hotel {n}"),
    "workshop": ("place", "the {n} repair workshop|the {n} pottery|the {n} maker space"),
    "lab": ("product", "the {n} centrifuge|the {n} microscope|the {n} incubator"),
    "printer": ("product", "the {n} printer|the {n} scanner|the {n} projector"),
    "kitchen": ("product", "the {n} oven|the {n} kettle|the {n} coffee grinder"),
    "bike": ("product", "the {n} bicycle|the {n} cargo bike|the {n} scooter"),
    "energy": ("product", "the {n} heat pump|the {n} solar panel|the {n} battery"),
    "tools": ("product", "the {n} drill|the {n} sewing machine|the {n} lawn mower"),
    "furniture": ("product", "the {n} desk|the {n} bookcase|the {n} office chair"),
    "camera": ("product", "the {n} camera|the {n} tent|the {n} radio"),
    "fair": ("event", "the {n} book fair|the {n} flea market|the {n} job fair"),
    "race": ("event", "the {n} half marathon|the {n} chess tournament|the {n} quiz night"),
    "conference": ("event", "the {n} conference|the {n} seminar|the {n} summit"),
    "party": ("event", "the {n} summer party|the {n} open day|the {n} street festival"),
    "course": ("event", "the {n} pottery course|the {n} language class|the {n} first-aid course"),
    "transport": ("service", "bus line {n}|the {n} shuttle|the {n} night bus"),
    "delivery": ("service", "the {n} courier service|{n} Express|the {n} parcel service"),
    "insurance": ("service", "the {n} insurance plan|the {n} savings plan|the {n} membership"),
    "rental": ("service", "the {n} car rental|the {n} tool hire|the {n} ski hire"),
    "phone": ("service", "the {n} mobile plan|the {n} internet plan|the {n} support plan"),
    "cleaning": ("service", "the {n} cleaning service|the {n} laundry service|the {n} tutoring service"),
    "software": ("software", "{n}DB|the {n} app|the {n} plugin|{n}Mail"),
    "cloud": ("software", "the {n} API|the {n} backup service|the {n} build server"),
    "game": ("software", "the game {n}|the {n} editor|the {n} firewall"),
}
"""Each domain's kind, and the names that its things may have."""

_ATTRIBUTES = """
place|opens|time|{e} opens at {v} / the doors of {e} are unlocked at {v} / visitors can enter {e} from {v}|When does {e} open? / From what time can people go into {e}? / What is the opening time of {e}?
place|closes|time|{e} closes at {v} / {e} shuts its doors at {v} / everybody has to leave {e} by {v}|When does {e} close? / By what time must people be out of {e}? / What time does {e} shut?
place|address|place|{e} is at {v} / the address of {e} is {v} / {e} is located at {v}|Under what address is {e}? / What is the address of {e}? / Where can I find {e}?
place|closed|day|{e} is closed on {v} / {e} stays shut every {v} / on {v}, nobody is served at {e}|On which day is {e} closed? / Which weekday doesn't {e} open? / What day of the week is {e} shut?
place|manager|person|{e} is managed by {v} / the manager of {e} is {v} / {v} runs {e}|Who runs {e}? / Who is the manager of {e}? / Who is in charge of {e}?
place|capacity|count|{e} has room for {v} people / up to {v} people fit into {e} / the capacity of {e} is {v} people|How many people fit into {e}? / What is the capacity of {e}? / How many visitors can {e} hold?
place|founded|year|{e} was founded in {v} / {e} was established in {v} / {e} has existed since {v}|In which year was {e} founded? / When was {e} established? / Since when has {e} existed?
place|entry|money|a visit to {e} costs {v} / entry to {e} costs {v} / {e} charges {v} for admission|How much does it cost to get into {e}? / What is the entry fee of {e}? / What do visitors pay at {e}?
place|parking|count|{e} has {v} parking spaces / there are {v} parking spaces at {e} / {v} cars can be parked at {e}|How many cars can park at {e}? / How many parking spaces does {e} have? / How many parking spots are there at {e}?
place|area|distance|{e} is {v} from the town centre / the town centre is {v} away from {e} / from the town centre to {e} it is {v}|How far is {e} from the town centre? / What is the distance from {e} to the centre of town? / How far out of the centre is {e}?
place|wifi|code|the Wi-Fi password of {e} is {v} / guests of {e} log in to the Wi-Fi with {v} / the wireless network of {e} has the password {v}|What is the Wi-Fi password at {e}? / How do guests get on the wireless network of {e}? / Which password does the Wi-Fi of {e} need?
place|staff|count|{e} employs {v} people / {v} people work at {e} / {e} has a staff of {v}|How many people work at {e}? / How many employees does {e} have? / How large is the staff of {e}?
place|contact|contact|{e} can be reached at {v} / to contact {e}, use {v} / enquiries for {e} go to {v}|How can I reach {e}? / Where do I send a question for {e}? / What are the contact details of {e}?
product|price|money|{e} costs {v} / the price of {e} is {v} / {e} is sold for {v}|How much is {e}? / What does {e} cost? / What do I have to pay for {e}?
product|weight|weight|{e} weighs {v} / the weight of {e} is {v} / {e} has a mass of {v}|How heavy is {e}? / What does {e} weigh? / What is the weight of {e}?
product|width|size|{e} is {v} wide / the width of {e} is {v} / {e} measures {v} across|How wide is {e}? / What is the width of {e}? / How much room does {e} need from side to side?
product|warranty|duration|{e} has a warranty of {v} / the warranty of {e} lasts {v} / {e} is under guarantee for {v}|How long is the warranty of {e}? / For how long is {e} guaranteed? / How long does the guarantee on {e} last?
product|maker|company|{e} is made by {v} / the manufacturer of {e} is {v} / {v} builds {e}|Who makes {e}? / Which company builds {e}? / Who is the manufacturer of {e}?
product|colour|colour|{e} is {v} / the colour of {e} is {v} / {e} is painted {v}|What colour is {e}? / Which colour does {e} have? / In what colour is {e} painted?
product|material|material|the housing of {e} is made of {v} / {e} has a housing of {v} / the outside of {e} is made of {v}|What is the outside of {e} made of? / Which material is used for the body of {e}? / What material is the casing of {e}?
product|service|duration|{e} must be serviced every {v} / {e} needs maintenance every {v} / a technician inspects {e} every {v}|How often is {e} serviced? / How often does {e} need maintenance? / At what interval must {e} be inspected?
product|serial|code|the model number of {e} is {v} / {e} has the model number {v} / {e} is listed in the catalogue as {v}|What is the model number of {e}? / Under which number is {e} in the catalogue? / Which model number does {e} have?
product|hot|temperature|{e} must not get hotter than {v} / the highest safe temperature of {e} is {v} / {e} switches off above {v}|How hot may {e} get? / What is the maximum temperature of {e}? / What temperature should {e} never exceed?
product|charge|duration|{e} takes {v} to get ready / after switching on, {e} is ready in {v} / {e} needs {v} to start up|How long does {e} take to start? / How long until {e} is ready? / What is the start-up time of {e}?
product|expert|person|{v} explains how to use {e} / training for {e} is given by {v} / ask {v} for an introduction to {e}|Who can show me how {e} works? / Who gives training for {e}? / Who teaches people to use {e}?
product|efficiency|percent|{e} has an efficiency of {v} / the efficiency of {e} is {v} / {e} works at an efficiency of {v}|How efficient is {e}? / What efficiency does {e} reach? / What is the efficiency of {e}?
event|date|date|{e} takes place on {v} / {e} is on {v} / the date of {e} is {v}|When is {e}? / On which date does {e} take place? / What day is {e} held?
event|begins|time|{e} begins at {v} / the start of {e} is at {v} / things get going at {e} at {v}|At what time does {e} begin? / What is the starting time of {e}? / What time of day does {e} start?
event|venue|place|{e} is held at {v} / the venue of {e} is {v} / people meet for {e} at {v}|Where is {e} held? / What is the venue of {e}? / Where do people go for {e}?
event|fee|money|a place at {e} costs {v} / the fee for {e} is {v} / taking part in {e} costs {v}|How much does it cost to take part in {e}? / What is the fee for {e}? / What do participants pay for {e}?
event|leader|person|{e} is led by {v} / {v} is in charge of {e} / the organiser of {e} is {v}|Who organises {e}? / Who is responsible for {e}? / Who leads {e}?
event|length|duration|{e} lasts {v} / the length of {e} is {v} / {e} is over after {v}|How long is {e}? / How long does {e} last? / What is the duration of {e}?
event|places|count|{e} has {v} places / at most {v} people can join {e} / {e} is limited to {v} participants|How many people can take part in {e}? / How many places are there at {e}? / What is the limit of participants for {e}?
event|register|date|registration for {e} ends on {v} / sign up for {e} by {v} / the last day to enrol for {e} is {v}|What is the deadline to sign up for {e}? / Until when can I register for {e}? / By which date must people enrol for {e}?
event|sponsor|company|{e} is sponsored by {v} / {v} pays for the prizes of {e} / the sponsor of {e} is {v}|Who sponsors {e}? / Which company supports {e}? / Who gives the prizes of {e}?
event|discount|percent|students get {v} off at {e} / the student discount for {e} is {v} / for students, {e} is {v} cheaper|How much cheaper is {e} for students? / What discount do students get for {e}? / What is the student reduction for {e}?
event|first|year|{e} was first held in {v} / the first edition of {e} was in {v} / people have met for {e} since {v}|In which year was {e} held for the first time? / When did {e} first take place? / What year did {e} start as a tradition?
event|volunteers|count|{v} volunteers help at {e} / {e} relies on {v} volunteers / the team of {e} has {v} volunteers|How many volunteers does {e} have? / How many unpaid helpers work at {e}? / What is the number of helpers at {e}?
service|price|money|{e} costs {v} a month / the monthly price of {e} is {v} / customers of {e} pay {v} each month|How much is {e} per month? / What does {e} cost a month? / What is the monthly fee of {e}?
service|notice|duration|{e} can be cancelled with {v} notice / the notice period of {e} is {v} / to end {e}, give notice {v} ahead|What is the notice period of {e}? / How far ahead must I cancel {e}? / How long beforehand do customers of {e} give notice?
service|hotline|contact|the hotline of {e} is {v} / customers reach {e} at {v} / questions about {e} go to {v}|How do I reach {e}? / What is the hotline of {e}? / Where can customers of {e} ask questions?
service|operator|company|{e} is run by {v} / the operator of {e} is {v} / {v} provides {e}|Which company runs {e}? / Which firm provides {e}? / Which company is the operator of {e}?
service|deposit|money|{e} asks for a deposit of {v} / the deposit for {e} is {v} / new customers of {e} leave a deposit of {v}|How large is the deposit for {e}? / What deposit does {e} ask for? / How much must new customers of {e} leave as security?
service|customers|count|{e} has {v} customers / {v} people use {e} / {v} customers rely on {e}|How many customers does {e} have? / How many people use {e}? / What is the number of users of {e}?
service|late|money|a late payment to {e} costs {v} extra / {e} charges {v} for a late payment / the fine of {e} for paying late is {v}|What happens if I pay {e} late? / How much is the late fee of {e}? / What does it cost to miss a payment to {e}?
service|started|year|{e} started in {v} / {e} has been offered since {v} / {e} was launched in {v}|In which year did {e} start? / Since when has {e} been offered? / When was {e} launched?
service|trial|duration|{e} is free for the first {v} / {e} has a free trial of {v} / new customers try {e} free for {v}|How long can I try {e} for free? / How long is the free trial of {e}? / For how long do new customers of {e} pay nothing?
service|hold|duration|complaints about {e} are answered within {v} / {e} answers complaints within {v} / it takes {e} at most {v} to answer a complaint|How quickly are complaints about {e} answered? / How long does {e} take to answer a complaint? / When will I hear back if I complain about {e}?
service|head|person|{e} is headed by {v} / {v} is the head of {e} / the person in charge of {e} is {v}|Who heads {e}? / Who is in charge of {e}? / What is the name of the head of {e}?
service|discount|percent|members save {v} on {e} / the member discount on {e} is {v} / {e} is {v} cheaper for members|How much do members save on {e}? / What discount do members get on {e}? / How much cheaper is {e} for members?
software|version|version|the current version of {e} is {v} / {e} is at version {v} / {v} is the newest release of {e}|What is the latest version of {e}? / Which release of {e} is current? / What version is {e} at?
software|port|count|{e} listens on port {v} / the port of {e} is {v} / clients connect to {e} on port {v}|Which port does {e} use? / On what port can clients reach {e}? / What port does {e} listen on?
software|memory|gigabytes|{e} needs {v} of memory / {e} requires {v} of RAM / at least {v} of memory is needed for {e}|How much RAM does {e} need? / What are the memory requirements of {e}? / How much memory must a machine have for {e}?
software|author|person|{e} is maintained by {v} / {v} looks after {e} / the maintainer of {e} is {v}|Who maintains {e}? / Who looks after {e}? / Who is the maintainer of {e}?
software|timeout|duration|{e} logs users out after {v} / sessions in {e} expire after {v} / {e} ends an idle session after {v}|How long does a session in {e} last? / When does {e} log people out? / After how long does an idle user of {e} have to log in again?
software|upload|gigabytes|{e} accepts files of up to {v} / the largest upload to {e} is {v} / files for {e} may have at most {v}|How large may a file for {e} be? / What is the upload limit of {e}? / What is the biggest file that {e} takes?
software|retention|duration|{e} keeps logs for {v} / logs of {e} are deleted after {v} / the log retention of {e} is {v}|How long are logs of {e} kept? / When does {e} delete its logs? / For how long does {e} store log files?
software|released|date|{e} was released on {v} / {e} came out on {v} / the release date of {e} was {v}|When was {e} released? / On which date did {e} come out? / What is the release date of {e}?
software|rate|count|{e} allows {v} requests per minute / the rate limit of {e} is {v} requests per minute / clients of {e} may send {v} requests a minute|How many requests per minute does {e} allow? / What is the rate limit of {e}? / How often a minute may a client call {e}?
software|license|money|a licence for {e} costs {v} / {e} is licensed for {v} / the licence fee of {e} is {v}|How much is a licence for {e}? / What does a licence of {e} cost? / What is the licence fee of {e}?
software|error|code|{e} reports a full disk as {v} / when the disk is full, {e} shows {v} / {v} is the error of {e} for a full disk|Which error does {e} show when the disk is full? / What code does {e} give if there is no disk space left? / How does {e} report a full disk?
software|window|day|{e} is updated every {v} / updates of {e} are installed on {v} / maintenance of {e} happens on {v}|On which day is {e} updated? / What day of the week is maintenance of {e}? / Which weekday are updates of {e} installed?
"""


@dataclass(frozen=True)
class Attribute:
    """Something that can be said of a thing, in several wordings each way."""

    key: str
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]


def _parse() -> dict[str, list[Attribute]]:
    attributes: dict[str, list[Attribute]] = {}
    for line in _ATTRIBUTES.strip().splitlines():
        kind, key, value, statements, questions = line.split("|")
        attribute = Attribute(key, value, tuple(statements.split(" / ")), tuple(questions.split(" / ")))
        attributes.setdefault(kind, []).append(attribute)
    return attributes


ATTRIBUTES = _parse()
"""By the kind of thing."""

ADVICE = """
the alarm goes off|leave by the side door and wait in the yard|What should people do when they hear the alarm?
a key is lost|tell the caretaker on the same day|What do I do if I can't find my key?
a parcel arrives damaged|photograph it and refuse delivery|How should I react to a broken parcel?
the printer jams|open the rear flap and pull the paper out slowly|What helps when paper is stuck in the printer?
a customer is angry|listen first and offer a refund|How does one deal with an upset customer?
the heating fails|switch the boiler off and call the landlord|What is to be done when it stays cold in the building?
a player is hurt|stop the game and call the coach|What happens if somebody in the team gets injured?
a booking is cancelled late|charge half of the price|What applies when somebody cancels at the last minute?
a pupil is ill|ring the school before 8:30|What must parents do when their child is sick?
a password is forgotten|ask the help desk for a reset link|How can somebody log in again who no longer knows the password?
the fridge is warm|throw away the milk and note the temperature|What do staff do if the refrigerator isn't cold?
a book comes back torn|put it on the repair shelf|Where does a damaged book go?
a plant has yellow leaves|water it less often|What helps a plant whose leaves lose their green?
a bus is more than an hour late|ask the driver for a refund voucher|What can passengers do after a long delay?
a build fails twice|revert the last commit|What is done after a second failed build?
chemicals are spilled|cover them with sand and air the room|How is a chemical spill handled?
an invoice is wrong|send it back to the supplier with a note|What happens to an incorrect bill?
the till doesn't add up|count again with a second person|What if the cash at the end of the day is off?
a tenant moves out early|keep the deposit until the final reading|What happens when someone leaves the flat before the contract ends?
the battery swells|stop charging and take it outside|How should one treat a battery that has puffed up?
"""
"""A case, what to do then, and a question in other words."""

REASONS = """
The side entrance is locked|the lock was broken twice last year|is the side entrance locked
Tickets are sold only online|queues blocked the street|are no tickets sold at the counter
The meeting moved to the afternoon|half of the team works in another time zone|is the meeting held later in the day
The old oven was replaced|it used twice as much power as a new one|is there a new oven
Dogs are kept on a lead|birds nest in the grass|are dog owners made to use a lead
The server restarts every night|a memory leak has not been found yet|is the server restarted daily
The lawn is cut only twice a year|insects need tall grass|is the lawn mown so seldom
Returns need a receipt|stolen goods were brought back|are customers asked for a receipt
The lift is limited to four people|its cable is thin|are so few people allowed in the lift
The lights dim at ten|neighbours complained of the glare|is the lighting reduced late in the evening
Glass bottles are not allowed|broken glass hurt a child|are bottles made of glass banned
The exam was put off|the hall had no heating|is the test postponed
"""
"""A statement, its reason, and how a question goes on after "Why"."""

PROCEDURES = """
returning a loan item|clean the item|check it for damage|fill in the return card|put it on the blue shelf
repotting a plant|soak the roots|remove the old soil|trim dead roots|fill the new pot|water it well
releasing a new version|run all tests|write the release notes|tag the commit|publish the package|tell the customers
opening the café|switch on the oven|grind the beans|set out the chairs|unlock the door
replacing a bicycle tube|take off the wheel|lift the tyre off the rim|pull out the tube|pump up the new one a little
enrolling a pupil|collect the form|check the birth certificate|assign a class|send the welcome letter
preparing a sample|weigh the powder|dissolve it in water|filter the liquid|label the flask
viewing a flat|show the cellar|read the meters|answer questions|hand out the application form
closing the till|print the daily report|count the cash|fill in the slip|lock the safe
setting up a laptop|install the updates|encrypt the disk|create the account|add it to the inventory
painting a wall|cover the floor|fill the holes|sand the surface|apply the primer|paint two coats
organising a match|book the pitch|invite the referee|mark the lines|publish the line-up
"""
"""A job and its steps in order."""
