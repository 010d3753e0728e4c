"""Texts under the labels of classification that isn't about sentiment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A kind of classification.

    Attributes:
        questions: ways of asking for it.
        fields: names of the JSON field for the label.
        texts: the texts of each label.
        fillers: sentences that may stand beside any text and don't change its label.
    """

    questions: tuple[str, ...]
    fields: tuple[str, ...]
    texts: dict[str, list[str]]
    fillers: tuple[str, ...] = ()


def _read(table: str) -> dict[str, list[str]]:
    pairs = (line.split(": ", 1) for line in table.strip().splitlines())
    return {label: texts.split(" | ") for label, texts in pairs}


_POLITE = ("Hello,", "Good morning!", "Thanks in advance.", "Kind regards, Ana", "I hope you are well.")

TASKS = (
    Task(
        (
            "What is the topic?",
            "Which section does this belong to?",
            "Classify the text by topic.",
            "Assign a category.",
        ),
        ("topic", "category", "section", "label"),
        _read("""
sports: The striker scored twice in the last ten minutes. | Rain stopped the tennis final in the third set. | She ran the marathon in under three hours. | The coach benched his captain.
politics: Parliament votes on the new tax law on Friday. | The minister resigned after the debate. | Voters chose a new mayor. | The two parties have agreed on a coalition.
technology: The new chip halves the power that a phone needs. | A bug in the browser exposed passwords. | Engineers trained a model to read handwriting. | The update adds support for foldable screens.
food: Let the dough rest for an hour before baking. | The chef swears by fresh basil. | Add a pinch of salt to the caramel. | The market sells ten kinds of cheese.
finance: Shares fell by four percent after the report. | The central bank raised its rate. | Her savings earn two percent interest. | The firm doubled its profit last quarter.
weather: Heavy snow is expected in the north tonight. | Sunny spells with light wind in the afternoon. | A storm warning is in force until noon. | Fog will clear by ten.
education: Pupils will sit the exam in June. | The university opens a new library. | The teacher handed out the homework. | A scholarship pays her fees.
travel: Our train crosses the border at dawn. | The guide led us through the old town. | You need a visa for stays over thirty days. | The hostel is five minutes from the beach.
gardening: Prune the roses in early spring. | Tomatoes need six hours of sun. | Water the seedlings in the evening. | The hedge should be cut before birds nest.
science: Physicists measured the particle's mass anew. | The experiment failed at high temperature. | Cells divide faster in this solution. | The chemist isolated a new compound.
"""),
    ),
    Task(
        (
            "What does the writer want?",
            "Detect the intent of the message.",
            "Which intent fits?",
            "Route this customer message to the right queue.",
        ),
        ("intent", "queue", "request_type", "label"),
        _read("""
refund: I want my money back for order 5512. | Please return the amount to my card, the lamp never worked. | How do I get reimbursed for the cancelled class?
cancel: Please end my subscription this month. | I no longer need the booking, delete it. | Stop my membership as of June.
order status: Where is my parcel? | Has my order left the warehouse yet? | When will the desk arrive?
technical problem: The app shows a white screen after login. | My printer says error 42. | The export button does nothing.
change address: I have moved, my new street is Elm Road 9. | Please send future letters to my office instead. | Update my postal address.
price question: How much is the yearly plan? | What would ten licences cost? | Is there a discount for students?
praise: Just wanted to say that your team did a great job. | The new design is lovely, well done! | Your clerk was so kind to me today.
book appointment: Could I come in on Tuesday at ten? | I'd like to reserve a slot for next week. | Is there a free time for a consultation?
reset password: I can't remember my login code. | The link to set a new password has expired. | I am locked out after three wrong tries.
complaint: Nobody has answered me for two weeks, this is unacceptable. | Your driver was rude to my mother. | I was promised a call and got none.
"""),
        _POLITE,
    ),
    Task(
        ("How urgent is it?", "Set the priority of the ticket.", "Rate the urgency.", "Triage this message."),
        ("urgency", "priority", "severity", "level"),
        _read("""
high: The whole shop is offline and customers can't pay. | Water is pouring into the server room right now! | All data of the morning is gone, we need help at once. | Nobody can log in and the exam starts in ten minutes.
medium: The report is wrong for two of our ten branches, please fix it this week. | One of the three printers has stopped, we use the others for now. | Search is slow since yesterday, but it works. | The heating in one room is weak; we can manage until Thursday.
low: There is a typo on the about page. | It would be nice to have a dark theme some day. | Whenever you have time, please rename the folder. | The logo looks slightly blurred; no hurry at all.
"""),
        _POLITE,
    ),
    Task(
        ("Is this message spam?", "Spam filter: which is it?", "Decide whether the mail is wanted."),
        ("spam", "label", "class", "verdict"),
        _read("""
spam: You have WON a free phone! Click here to claim it now. | Earn 5,000 a week from home, no skills needed. | Your account is locked, send us your password to reopen it. | Cheap watches, 90 % off, only today!!! | Dear friend, I need your help to move ten million. | Lose ten kilos in a week with this secret tea.
not spam: Can we move the meeting to three? | The minutes of yesterday are attached. | Your library book is due on Friday. | Mum, I'll be late, start without me. | The invoice for June is in the folder. | Thanks for the lift, see you at training.
"""),
    ),
    Task(
        ("Which language is this?", "Detect the language.", "Name the language of the text."),
        ("language", "lang", "label"),
        _read("""
English: The shop closes at eight. | Where did you leave the keys? | We are going to the park tomorrow. | It rained all night.
German: Der Laden schließt um acht. | Wo hast du die Schlüssel gelassen? | Wir gehen morgen in den Park. | Es hat die ganze Nacht geregnet.
French: Le magasin ferme à huit heures. | Où as-tu laissé les clés ? | Nous allons au parc demain. | Il a plu toute la nuit.
Spanish: La tienda cierra a las ocho. | ¿Dónde dejaste las llaves? | Mañana vamos al parque. | Llovió toda la noche.
Italian: Il negozio chiude alle otto. | Dove hai lasciato le chiavi? | Domani andiamo al parco. | Ha piovuto tutta la notte.
Dutch: De winkel sluit om acht uur. | Waar heb je de sleutels gelaten? | Morgen gaan we naar het park. | Het heeft de hele nacht geregend.
Portuguese: A loja fecha às oito. | Onde deixaste as chaves? | Amanhã vamos ao parque. | Choveu a noite toda.
"""),
    ),
    Task(
        ("What kind of text is it?", "Which type of document is this?", "Name the kind of text."),
        ("type", "kind", "document_type", "genre"),
        _read("""
recipe: Beat two eggs, add flour and bake for half an hour. | Fry the onions until golden, then stir in the rice.
invoice: Item 3: desk lamp, 2 x 24.50, total due 49.00 by 30 June. | Please transfer 310.20 within fourteen days, reference 88-12.
invitation: Join us on Saturday at six for Leo's birthday! | You are warmly invited to the opening of our studio.
news: The council has approved the new bridge, a spokesman said on Monday. | Two candidates remain in the race for mayor.
manual: Hold the power button for five seconds until the light blinks. | Unplug the device before removing the cover.
advert: Now 30 % off all bikes, this week only! | Try our new muesli, crunchier than ever.
poem: The moon lies silver on the stair, / and no one hears, and no one's there. | O autumn leaf, so red, so thin, / the wind that takes you lets me in.
code: for item in items: print(item.name) | def area(w, h): return w * h
"""),
    ),
    Task(
        ("Is the sentence a question, a request, a statement or something else?", "Which speech act is it?"),
        ("speech_act", "kind", "label"),
        _read("""
question: Who has the key to the lab? | How many chairs do we need? | Is the café open on Sundays?
request: Please close the window. | Send me the file by noon. | Could you hold the door for me?
statement: The lab is on the second floor. | We have forty chairs. | The café closes on Sundays.
greeting: Hello everyone! | Good evening to you all. | Hi there, long time no see!
thanks: Thank you so much for the cake. | Much obliged for your help. | Thanks, that was kind.
apology: Sorry for being late. | I apologise for the mix-up. | Forgive me, I forgot your book.
"""),
    ),
)
