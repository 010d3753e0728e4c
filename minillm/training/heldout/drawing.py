"""Small worlds to ask about: entities of a domain, what is true of them, and sources that say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from minillm.training.heldout.layouts import Source
from minillm.training.heldout.values import Value, day, make_value, person, place
from minillm.training.heldout.worlds import Attribute, Domain

LASTING = frozenset(
    ("founded", "lit", "architect", "oldest", "age", "depth", "last eruption", "find", "winner", "rock", "soil",
     "mirror", "gauge", "height", "altitude", "gradient", "lens", "jury")
)  # fmt: skip
"""What no newer version of a document would tell otherwise."""


@dataclass(frozen=True)
class Fact:
    """Something that is true of an entity, in a year where that matters."""

    entity: str
    attribute: Attribute
    value: Value
    year: int


@dataclass
class World:
    """Draws entities of a domain and what is true of them, always the same of each; says nothing beside it twice."""

    domain: Domain
    random: Random
    places: dict[str, str] = field(default_factory=dict)
    facts: dict[tuple[str, str, int], Fact] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def entity(self, namesake: str | None = None) -> str:
        """A new name; with the place of another one's, if that's given."""
        where = self.places[namesake] if namesake else place(self.random)
        while (name := self.random.choice(self.domain.entities).format(p=where)) in self.places:
            where = where if namesake else place(self.random)
        self.places[name] = where
        return name

    def attribute(self, *others: Attribute, yearly: bool | None = None, lasting: bool = True) -> Attribute:
        """One that isn't among the others."""
        return self.random.choice(
            [
                each
                for each in self.domain.attributes
                if each not in others
                and (yearly is None or each.is_yearly == yearly)
                and (lasting or each.key not in LASTING)
            ]
        )

    def fact(self, entity: str, attribute: Attribute, year: int | None = None) -> Fact:
        """Something about an entity."""
        year = year or self.random.randint(2009, 2023)
        key = (entity, attribute.key, year if attribute.is_yearly else 0)
        if key not in self.facts:
            self.facts[key] = Fact(entity, attribute, make_value(attribute.spec, self.random), year)
        return self.facts[key]

    def question(self, fact: Fact) -> str:
        """Asks for a fact."""
        return capitalized(self.random.choice(fact.attribute.questions).format(e=fact.entity, y=fact.year))

    def source(self, *facts: Fact, asides: int | None = None, title: str | None = None) -> Source:
        """A text with these facts, in any order, between sentences that say nothing of note."""
        random, domain = self.random, self.domain
        asides = random.choice((0, 0, 1, 1, 2, 4)) if asides is None else asides
        fresh = [aside for aside in domain.asides if aside not in self.told]
        told = random.sample(fresh, min(asides, len(fresh)))
        self.told.update(told)
        parts: list[Fact | str] = [*facts, *told]
        random.shuffle(parts)
        entities = {fact.entity for fact in facts}
        is_named = len(entities) == 1 and title is None and random.random() < 0.5
        if title is None:
            title = random.choice(domain.titles)
        if is_named:
            title = random.choice(("{e}", "{t}: {e}", "{e} ({t})")).format(e=facts[0].entity, t=title.lower())
        sentences = []
        for part in parts:
            if isinstance(part, Fact):
                name = domain.short if is_named and random.random() < 0.6 else part.entity
                part = random.choice(part.attribute.statements).format(e=name, v=part.value.text, y=part.year)
                is_named = len(entities) == 1
            sentences.append(capitalized(part))
        owner = person(random) if random.random() < 0.3 else None
        date = day(random, random.randint(2019, 2024)).text if random.random() < 0.4 else None
        return Source(capitalized(title), random.choice((" ", " ", "\n")).join(sentences), owner, date)

    def distractors(self, fact: Fact, num: int, *, with_same_attribute: bool | None = None) -> list[Source]:
        """Sources near a fact that don't state it: others have the attribute, or the entity has others."""
        sources = []
        for index in range(num):
            same = self.random.random() < 0.5 if with_same_attribute is None or index else with_same_attribute
            if same:
                other = self.entity(fact.entity if index == 0 and self.random.random() < 0.2 else None)
                facts = [self.fact(other, fact.attribute, fact.year)]
                if self.random.random() < 0.5:
                    facts.append(self.fact(facts[0].entity, self.attribute(fact.attribute)))
            else:
                entity = fact.entity if self.random.random() < 0.6 else self.entity()
                facts = [self.fact(entity, self.attribute(fact.attribute))]
            sources.append(self.source(*facts))
        return sources

    def mixed(self, wanted: Sequence[Source], others: Iterable[Source]) -> tuple[tuple[Source, ...], frozenset[int]]:
        """All of them in any order, and where the wanted ones are."""
        sources = [*wanted, *others]
        order = list(range(len(sources)))
        self.random.shuffle(order)
        return tuple(sources[index] for index in order), frozenset(order.index(index) for index in range(len(wanted)))


def capitalized(text: str) -> str:
    """The text with a capital in front."""
    return text[:1].upper() + text[1:]
