"""Short conversations written by hand: wordings of what a user says, and the answer."""

from __future__ import annotations

_TABLE = """
Hello! / Hi / Hi there! / Hey, how are you?|Hello! How can I help you today?
Good morning! / Good morning to you|Good morning! What can I do for you?
Thanks! / Thank you so much. / Thanks, that helped.|You're welcome! Let me know if there is anything else that I can help with.
Bye! / See you later. / Good night!|Goodbye! Have a good time, and come back whenever you need help.
Who are you? / What are you? / Tell me about yourself.|I'm a small assistant of the minillm course. I can answer short questions, rewrite sentences and help with simple tasks.
What can you do? / How can you help me?|I can explain simple things, rewrite or summarise short texts, pull facts out of a text, and sort messages. I'm small, so please check important facts.
Why is the sky blue? / What makes the sky look blue?|Sunlight is scattered by the air, and blue light is scattered more strongly than red light. So from every direction some blue light reaches your eyes.
How do I boil an egg? / How long does an egg take?|Put the egg into boiling water. After about six minutes it is soft, and after ten it is hard. Then cool it under cold water.
What is a variable in programming? / Explain variables to a beginner.|A variable is a name for a value. After `x = 5`, the name x stands for 5, and you can use or change it later in the program.
What is a function in programming? / Explain what a function is.|A function is a named piece of code that does one task. You give it inputs, called arguments, and it can return a result. This lets you use the same code in many places.
What is a loop? / Explain loops in code.|A loop repeats a piece of code. A `for` loop goes through the items of a collection, and a `while` loop goes on as long as a condition is true.
How do I reverse a list in Python? / Reverse a Python list.|Use `items[::-1]` for a reversed copy, or `items.reverse()` to change the list itself.
How do I read a file in Python? / Python: read a text file|Use `with open("file.txt") as file: text = file.read()`. The `with` statement closes the file for you.
What does HTTP 404 mean? / I got a 404 error. What is it?|A 404 means that the server could not find the page you asked for. Check the address for typing errors, or look for the page from the site's home page.
What is the difference between a list and a tuple? / List or tuple in Python?|A list can be changed after it is made, and a tuple cannot. Use a tuple for a fixed group of values, and a list when items come and go.
What is Git? / What is git used for?|Git is a version control system. It keeps the history of your files, so that you can go back to earlier versions and work on changes together with others.
How do I undo my last commit? / Undo last git commit|Run `git reset --soft HEAD~1`. This removes the commit but keeps your changes staged, so you can commit them again.
What is recursion? / Explain recursion simply.|Recursion is when a function calls itself on a smaller problem. It needs a base case that stops it, such as the factorial of 0 being 1.
What is an API? / Explain API in simple words.|An API is a set of rules by which one program asks another for data or actions. For example, a weather app uses an API to get the forecast from a server.
What is photosynthesis? / How do plants make food?|Plants use sunlight to turn water and carbon dioxide into sugar and oxygen. The sugar feeds the plant, and the oxygen goes into the air.
How do I remove a coffee stain? / There's coffee on my shirt, help!|Rinse it with cold water right away. Then rub in a little liquid soap, wait ten minutes and wash the shirt as usual.
How often should I water a cactus? / Watering a cactus|Water it only when the soil is quite dry, about every two or three weeks in summer. In winter, once a month or less is enough.
Give me three tips for better sleep. / How can I sleep better?|1. Go to bed at the same time each night.\\n2. Keep the room dark and cool.\\n3. Put your phone away an hour before bed.
Name three fruits. / List three fruits.|1. Apple\\n2. Banana\\n3. Orange
Name three programming languages. / List three languages for programming.|1. Python\\n2. Java\\n3. Rust
Name three primary colours. / What are the primary colours?|The primary colours in painting are red, yellow and blue.
Give me three ideas for a rainy day. / What can I do when it rains?|You could read a book, bake a cake or play a board game with friends.
Three tips for a job interview, please. / How do I prepare for an interview?|1. Read about the company beforehand.\\n2. Prepare examples of your work.\\n3. Have a question or two ready to ask.
Three healthy snacks? / Suggest three healthy snacks.|1. A handful of nuts\\n2. Carrot sticks with hummus\\n3. Yoghurt with berries
Make this more polite: Send me the report. / Rewrite politely: Send me the report.|Could you please send me the report?
Make this polite: You are late again. / Say it more kindly: You are late again.|I noticed that you arrived late again. Is everything all right?
Rewrite in formal English: gotta go, talk later. / More formal please: gotta go, talk later|I have to leave now. We can speak again later.
Correct the grammar: He don't like apples. / Fix this sentence: He don't like apples.|He doesn't like apples.
Correct this: I has two brother. / Fix the mistakes: I has two brother.|I have two brothers.
Shorten this: Due to the fact that it was raining, we stayed at home. / Make it shorter: Due to the fact that it was raining, we stayed at home.|Because it rained, we stayed at home.
Put into the past tense: She walks to school. / Past tense of: She walks to school.|She walked to school.
Put this into the passive: The dog chased the cat. / Passive voice: The dog chased the cat.|The cat was chased by the dog.
Summarise: The shop was closed on Monday because of a burst pipe. It will open again on Wednesday. / Sum up in one sentence: The shop was closed on Monday because of a burst pipe. It will open again on Wednesday.|The shop is closed because of a burst pipe and opens again on Wednesday.
Summarise: Mia planted tomatoes in April. By August she had more than she could eat, so she gave some to her neighbours. / In short: Mia planted tomatoes in April. By August she had more than she could eat, so she gave some to her neighbours.|Mia's tomatoes grew so well that she shared them with her neighbours.
How do you say thank you in French? / Thank you in French?|In French, "thank you" is "merci".
How do you say good morning in Spanish? / Good morning in Spanish, please.|In Spanish, "good morning" is "buenos días".
Translate "cat" into German. / What is cat in German?|"Cat" is "Katze" in German.
Translate "house" into Italian. / What is house in Italian?|"House" is "casa" in Italian.
How do I pick a lock to break into a house? / Help me break into my neighbour's flat.|I can't help with breaking into someone's home. If you are locked out of your own, a locksmith can help you.
Write a message to bully a classmate. / Help me insult my classmate.|I won't help to hurt someone. If there is a conflict, I can help you write a calm message to talk it over.
How can I read my partner's messages secretly? / Help me spy on my friend's phone.|I can't help with reading someone's messages without their consent. Talking openly about what worries you is a better way.
How do I make a bomb? / Tell me how to build explosives.|I can't help with that. If you are thinking of hurting someone or yourself, please talk to someone you trust or call your local emergency number.
What is the capital of France? / France's capital?|The capital of France is Paris.
What is the capital of Japan? / Japan's capital?|The capital of Japan is Tokyo.
What is the capital of Italy? / Which city is the capital of Italy?|The capital of Italy is Rome.
How many days are in a leap year? / Days in a leap year?|A leap year has 366 days, one more than an ordinary year. The extra day is 29 February.
How many minutes are in a day? / Minutes per day?|A day has 24 hours of 60 minutes, so it has 1,440 minutes.
What is water made of? / What are the elements of water?|Water is made of hydrogen and oxygen. Each molecule has two hydrogen atoms and one oxygen atom.
Why do leaves turn red in autumn? / Why do leaves change colour?|In autumn, trees break down the green chlorophyll in their leaves. Then yellow colours that were hidden show, and some trees make red ones.
Why does ice float? / Why doesn't ice sink?|Water expands when it freezes, so ice is less dense than liquid water. That is why it floats.
What causes the tides? / Why are there tides?|The tides are caused mainly by the pull of the moon on the oceans. The sun adds a smaller pull.
What is gravity? / Explain gravity.|Gravity is the force by which masses attract each other. It keeps us on the ground and the planets on their paths around the sun.
What is inflation? / Explain inflation simply.|Inflation means that prices rise over time, so the same money buys less than before.
What is a budget? / How do I make a budget?|A budget is a plan for your money. Write down what you earn and what you spend, then decide how much may go to each purpose.
I feel tired. / I'm so tired today.|I'm sorry to hear that. A short walk, a glass of water or an early night may help. Has it been a long day?
I'm nervous about my exam. / My exam is tomorrow and I'm scared.|That's quite normal. Go over the main points once more, sleep well, and take slow breaths before you start. Good luck!
I passed my test! / I got the job!|Congratulations! That is great news, and you can be proud of it.
Tell me a joke. / Do you know a joke?|Why did the scarecrow win a prize? Because he was outstanding in his field.
Recommend a hobby. / I need a new hobby.|How about gardening, drawing or learning an instrument? If you tell me what you enjoy, I can suggest something that fits.
How do I cook rice? / Cooking rice, how?|Rinse one cup of rice and add two cups of water. Bring it to the boil, then cover it and let it simmer for about fifteen minutes.
How do I make tea? / What's the right way to make tea?|Pour hot water over the tea and let it steep for three to five minutes. Then take out the leaves or the bag.
How do I tie my shoes? / Tying shoes, please explain.|Cross the laces and pull one under the other. Make a loop with one lace, wrap the other around it, and pull it through to form a second loop.
How do I change a bike tube? / My bike has a flat tyre.|Take off the wheel and lift one side of the tyre off the rim. Swap the tube, push the tyre back on and pump it up.
How do I write a good e-mail? / Tips for e-mails?|Use a clear subject line, say what you need in the first sentence, and keep it short. End with a friendly closing.
What is a synonym? / Explain synonym.|A synonym is a word with the same or nearly the same meaning as another. For example, "big" and "large" are synonyms.
Give me a synonym for happy. / Another word for happy?|Another word for "happy" is "cheerful".
What is the opposite of hot? / Antonym of hot?|The opposite of "hot" is "cold".
What is the plural of mouse? / Plural of mouse?|The plural of "mouse" is "mice".
Write a sentence with the word bridge. / Use bridge in a sentence.|We walked across the old bridge to reach the village.
What does CPU stand for? / What's a CPU?|CPU stands for central processing unit. It is the part of a computer that carries out the instructions of programs.
What is RAM? / Explain RAM.|RAM is a computer's working memory. It holds what programs are using at the moment, and it is emptied when the computer is switched off.
What is a language model? / Explain language models.|A language model predicts the next piece of a text from what comes before it. By doing so again and again, it can write answers.
What is a token? / What are tokens in language models?|A token is a piece of text, often a word or part of one. Language models read and write text as a series of tokens.
What is a database? / Explain databases.|A database stores data in an orderly way, so that programs can find and change it quickly.
What is a bug in software? / What's a bug?|A bug is a mistake in a program that makes it behave in a way that was not intended.
How do I make a strong password? / Password tips?|Use a long phrase of several random words, and a different one for each account. A password manager can remember them for you.
How do I save energy at home? / Tips for saving energy?|Turn off devices you don't use, heat only the rooms you need, and use LED lamps. Washing at a low temperature helps too.
What should I pack for a weekend trip? / Packing list for two days?|Pack clothes for two days, a toothbrush, your charger, and something warm. Don't forget your keys and your wallet.
What is a hash map? / Explain dictionaries in Python.|A dictionary stores values under keys, so you can look one up quickly. In Python, `ages = {"Ann": 30}` makes one, and `ages["Ann"]` gives 30.
How do I sort a list in Python? / Sort a list of numbers in Python|Use `sorted(items)` to get a new sorted list, or `items.sort()` to sort the list in place. Add `reverse=True` for descending order.
How do I join strings in Python? / Combine a list of words into one string|Use `" ".join(words)`. The string before the dot is put between the words.
What does "if __name__ == '__main__'" do? / Why do scripts check __name__?|It runs the code below it only when the file is started as a script. When the file is imported as a module, that code is skipped.
What is a class in Python? / Explain classes.|A class describes a kind of object: the data it holds and what it can do. From one class you can create many objects, each with its own data.
What is a compiler? / Explain compilers briefly.|A compiler translates a program from a language that people write into instructions that a machine can run.
What is an operating system? / What does an operating system do?|An operating system manages a computer's hardware and runs its programs. Windows, macOS and Linux are well-known examples.
What is open source? / Explain open source software.|Open source software is published with its source code, so that anyone may read, use and change it under the terms of its licence.
What is a unit test? / Why write unit tests?|A unit test checks that a small part of a program does what it should. It helps you notice quickly when a change breaks something.
What is encryption? / How does encryption help?|Encryption turns readable data into a form that only someone with the right key can read. It protects messages and files from strangers.
What is the cloud? / Explain cloud computing.|The cloud means computers in a data centre that you use over the internet. You can store files or run programs there without owning the machines.
What is a URL? / Explain what a URL is.|A URL is the address of something on the web. It tells your browser which server to ask, and for which page.
What is JSON? / Explain JSON in a sentence.|JSON is a text format for data. It is made of objects with named fields, lists, strings, numbers, true, false and null.
What is a regular expression? / Explain regex.|A regular expression is a pattern that describes text. With it you can search for things such as dates or e-mail addresses.
How do I find a word in a file on Linux? / Search text in a file, Linux|Use `grep word file.txt`. It prints every line that contains the word, and `-i` makes it ignore upper and lower case.
How do I list files in a folder on Linux? / Linux command to list files|Use `ls` to list the files, and `ls -la` to see hidden files and details too.
How do I exit vim? / I'm stuck in vim!|Press Escape, then type `:q!` and Enter to leave without saving. Use `:wq` to save and leave.
Why is my computer slow? / My laptop has become slow.|Too many open programs or a full disk are common causes. Close what you don't need, restart it, and check for updates.
My wifi doesn't work. / I have no internet at home.|Restart your router first and wait two minutes. If that doesn't help, check the cables and see whether other devices can connect.
How do I back up my files? / What's a good way to back up files?|Keep one copy on an external drive and one in another place, such as a cloud service. Let it run automatically, and try restoring a file now and then.
What is a noun? / Explain nouns.|A noun is a word for a person, a place, a thing or an idea, such as "teacher", "park", "table" or "freedom".
What is a metaphor? / Explain metaphor with an example.|A metaphor describes one thing as though it were another. "Time is a thief" is an example.
What is the difference between its and it's? / Its or it's?|"Its" shows that something belongs to it. "It's" is short for "it is" or "it has".
When do I use "fewer" and "less"? / Fewer or less?|Use "fewer" for things that you can count, such as fewer cars. Use "less" for things that you cannot, such as less water.
What does RSVP mean? / RSVP on an invitation, what is that?|RSVP asks you to say whether you will come. It stands for the French "répondez s'il vous plaît", which means "please reply".
How many continents are there? / Number of continents?|By the most common count there are seven continents: Africa, Antarctica, Asia, Australia, Europe, North America and South America.
What is the largest ocean? / Which ocean is the biggest?|The Pacific Ocean is the largest ocean on Earth.
How many legs does a spider have? / Legs of a spider?|A spider has eight legs.
What is the capital of Spain? / Spain's capital?|The capital of Spain is Madrid.
What is the capital of Canada? / Which city is Canada's capital?|The capital of Canada is Ottawa.
Who wrote Romeo and Juliet? / Author of Romeo and Juliet?|William Shakespeare wrote "Romeo and Juliet".
How many seconds are in an hour? / Seconds per hour?|An hour has 60 minutes of 60 seconds, so it has 3,600 seconds.
At what temperature does water boil? / Boiling point of water?|At sea level, water boils at 100 °C, which is 212 °F. Higher up, it boils at a lower temperature.
What is a prime number? / Explain prime numbers.|A prime number is a whole number above 1 that can be divided only by 1 and itself. The first ones are 2, 3, 5 and 7.
What is an average? / How do I compute the mean?|Add all the numbers and divide the sum by how many there are. The average of 2, 4 and 9 is 15 / 3 = 5.
What is 10 percent of 250? / Ten percent of 250?|Ten percent of 250 is 25.
What is half of 90? / 90 divided by 2?|Half of 90 is 45.
How do I calculate the area of a rectangle? / Area of a rectangle?|Multiply its length by its width. A room of 4 by 3 metres has an area of 12 square metres.
Why do we yawn? / What is yawning for?|Nobody knows for certain. People yawn when they are tired or bored, and one idea is that it helps to keep us alert.
Why do cats purr? / What does it mean when a cat purrs?|Cats often purr when they are content. They may also purr to calm themselves when they are stressed or in pain.
Why is the sea salty? / Where does the salt in the sea come from?|Rain and rivers wash minerals out of rocks and carry them to the sea. The water evaporates, but the salt stays behind.
How does a rainbow form? / Why do we see rainbows?|Sunlight is bent and split into colours inside raindrops, and reflected back to us. You see a rainbow with the sun behind you and rain in front.
What is lightning? / Explain lightning.|Lightning is a large spark of electricity, within a cloud or between a cloud and the ground. It heats the air so fast that we hear thunder.
How does a fridge work? / Why is a fridge cold inside?|A liquid evaporates in pipes inside the fridge and takes up heat. A compressor then presses the gas so that it gives off the heat outside.
How does soap clean? / Why does soap remove grease?|One end of a soap molecule holds on to grease and the other to water. So the grease is lifted off and rinsed away.
What is compost? / How do I start composting?|Compost is plant waste that has rotted into rich soil. Mix kitchen scraps with dry leaves, keep the heap moist, and turn it now and then.
When should I plant tulips? / Planting tulips, when?|Plant tulip bulbs in autumn, about six weeks before the ground freezes. They flower in the following spring.
How do I keep herbs fresh? / My basil wilts in a day.|Put the stems into a glass of water, as with cut flowers. Keep basil at room temperature and most other herbs in the fridge.
How do I make pancakes? / Simple pancake recipe?|Whisk one egg, one cup of flour and one cup of milk. Fry thin portions in a little butter until both sides are golden.
What can I cook with eggs and potatoes? / I have only eggs and potatoes. Ideas?|You could make a Spanish omelette: fry sliced potatoes until soft, pour beaten eggs over them and cook until set.
How do I stop hiccups? / I have the hiccups.|Try holding your breath for a short while or sipping cold water slowly. They usually stop by themselves within minutes.
How do I sew on a button? / A button came off my coat.|Thread a needle and knot the end. Sew through the cloth and the holes of the button several times, then fasten the thread at the back.
How do I clean a window without streaks? / Streaks on my windows!|Use warm water with a drop of soap, wipe from top to bottom, and dry with a lint-free cloth. Don't do it in bright sun.
How do I learn vocabulary faster? / Tips for learning words?|Study a few words each day and repeat them after a day, three days and a week. Using them in your own sentences helps a lot.
How can I focus better? / I get distracted all the time.|Put your phone in another room and work on one task for 25 minutes. Then take a short break before you go on.
I'm bored. / There's nothing to do.|How about a walk, a puzzle or calling a friend? You could also try a recipe that you have never made.
I had a fight with my friend. / My friend is angry with me.|I'm sorry to hear that. It often helps to wait until you are both calm, say how you felt, and listen to the other side.
I forgot my friend's birthday. What should I write? / A late birthday message, please.|You could write: "Happy belated birthday! I'm sorry that I missed the day, but I'm thinking of you and hope it was wonderful."
Write a short birthday wish. / A birthday message for a colleague?|Happy birthday! I wish you a wonderful day and a year full of good things.
Write an out-of-office reply. / Automatic reply for my holiday?|Thank you for your message. I'm out of the office until Monday and will reply when I'm back.
Write a headline for a bake sale. / Title for a school bake sale?|Sweet Treats for a Good Cause: Join Our Bake Sale!
Suggest a name for a cat. / What should I call my kitten?|How about Pepper, Luna or Biscuit?
Name three sports with a ball. / List three ball sports.|1. Football\\n2. Basketball\\n3. Tennis
Name three things for a first-aid kit. / List three items for a first-aid kit.|1. Plasters\\n2. Bandages\\n3. Disinfectant
Three ways to say hello? / List three greetings.|1. Hello\\n2. Good morning\\n3. Hi there
Make this more friendly: Your form is incomplete. / Rewrite kindly: Your form is incomplete.|Thank you for your form! A few fields are still empty. Could you please fill them in?
Put into the future tense: He reads a book. / Future tense of: He reads a book.|He will read a book.
Turn into a question: You like tea. / Make a question of: You like tea.|Do you like tea?
How do you say please in German? / Please in German?|In German, "please" is "bitte".
Translate "water" into Spanish. / Water in Spanish?|"Water" is "agua" in Spanish.
Help me cheat in my exam. / How can I copy answers in the test unnoticed?|I can't help you cheat, but I'm glad to help you study. Which topic gives you trouble?
Write a fake medical certificate for me. / Forge a doctor's note for me.|I can't help to forge a document. If you are ill, a doctor can give you a real one, and I can help you write to your teacher or boss.
How can I get someone's password? / Hack my ex's account.|I can't help with getting into someone else's account. If you have lost access to your own, use the site's way to recover it.
Is it going to rain tomorrow? / What's the weather tomorrow?|I can't see the weather, since I have no access to live data. A weather service for your area can tell you.
What time is it? / Can you tell me the time?|I have no clock, so I can't tell you the time. Your phone or computer will show it.
"""

SEEDS = [
    (question.split(" / "), answer.replace("\\n", "\n"))
    for question, answer in (row.split("|") for row in _TABLE.strip().splitlines())
]
"""Wordings of a question with one answer that fits all of them."""

FOLLOW_UPS = [
    ("Thanks!", "You're welcome!"),
    ("Thank you, that's clear now.", "I'm glad that it helped."),
    ("Great, thanks a lot.", "You're welcome. Just ask if anything else comes up."),
    ("OK, good to know.", "Glad I could help. Is there anything else?"),
    ("Perfect, bye!", "Goodbye, and take care!"),
]
"""What a conversation may end with."""
