"""The registry of procedural families and the role each plays.

``backbone`` families train the image-text encoder, ``auxiliary`` ones train the zero-shot detector, ``test`` ones
are seen by neither: the three sets are disjoint, so that a score on a test family is zero-shot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from gsclip.data.procedural import assembled, mixed, prismatic, soft, turned
from gsclip.data.procedural.part import Part

Role = Literal["backbone", "auxiliary", "test"]


@dataclass(frozen=True)
class Family:
    """A kind of part.

    Attributes:
        name: category of the data set.
        role: what the family is for.
        build: a flawless part of random proportions.
        noun: plain noun phrase for captions.
        weight: how many times as many of its parts as of others train the backbone.
    """

    name: str
    role: Role
    build: Callable[[np.random.Generator], Part]
    noun: str
    weight: int = 1


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family("flange_bolt", "backbone", turned.flange_bolt, "threaded bolt"),
            Family("spur_gear", "backbone", turned.spur_gear, "gear wheel"),
            Family("pipe_flange", "backbone", turned.pipe_flange, "pipe flange"),
            Family("stepped_shaft", "backbone", turned.stepped_shaft, "stepped shaft"),
            Family("control_knob", "backbone", turned.control_knob, "control knob"),
            Family("collet", "backbone", turned.collet, "clamping sleeve"),
            Family("bottle", "backbone", turned.bottle, "bottle"),
            Family("heat_sink", "backbone", prismatic.heat_sink, "heat sink"),
            Family("bracket", "backbone", prismatic.bracket, "mounting bracket"),
            Family("connector", "backbone", prismatic.connector, "plug connector"),
            Family("cast_housing", "backbone", prismatic.cast_housing, "cast housing"),
            Family("starfish", "backbone", soft.starfish, "star-shaped pastry"),
            Family("turned_mix", "backbone", mixed.turned_mix, "turned part", weight=2),
            Family("plate_mix", "backbone", mixed.plate_mix, "machined plate", weight=2),
            Family("organic_body", "backbone", mixed.organic_body, "fruit", weight=2),
            Family("tapered_rod", "backbone", mixed.tapered_rod, "rod", weight=2),
            Family("textured_slab", "backbone", mixed.textured_slab, "patterned slab", weight=2),
            Family("printed_part", "backbone", assembled.printed_part, "printed part", weight=4),
            Family("vessel", "backbone", assembled.vessel, "vessel", weight=3),
            Family("castle_nut", "auxiliary", turned.castle_nut, "castle nut"),
            Family("vase", "auxiliary", turned.vase, "vase"),
            Family("biscuit", "auxiliary", soft.biscuit, "biscuit"),
            Family("hose_fitting", "test", turned.hose_fitting, "hose fitting"),
            Family("impeller", "test", turned.impeller, "fan wheel"),
            Family("handwheel", "test", turned.handwheel, "handwheel"),
            Family("elbow", "test", prismatic.elbow, "pipe elbow"),
            Family("stud_brick", "test", prismatic.stud_brick, "building brick"),
            Family("jar_lid", "test", prismatic.jar_lid, "screw lid"),
            Family("ring_cake", "test", soft.ring_cake, "doughnut"),
        )
    }
)
"""Every family by its name."""


def categories(role: Role) -> tuple[str, ...]:
    """Names of the families of a role, in the registry's order."""
    return tuple(name for name, family in FAMILIES.items() if family.role == role)
