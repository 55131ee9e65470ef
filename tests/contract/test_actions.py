"""What the console offers is what command_queue knows, by its name, class and permission."""

from __future__ import annotations

import pytest

from services.command_queue import catalogue, pins
from services.console.actions import BULK, Action, Input
from services.console.permissions import PERMISSIONS
from tests.command_queue.approving import profile


def _value(one: Input) -> str:
    return profile("com.apple.wifi.managed")["profile"] if one.area else "1" * max(one.least, 1)


@pytest.mark.parametrize("action", BULK, ids=lambda one: one.name)
def test_an_action_is_a_kind_of_command(action: Action) -> None:
    params = {one.name: _value(one) for one in action.inputs}
    least = {name: params[name] for name in action.one_of[:1]}
    order = catalogue.make(action.kind, {**action.fixed, **least})
    assert order.command_class == action.danger
    assert set(action.needs) <= set(PERMISSIONS["command_queue"])
    chosen = catalogue.make(action.kind, {**action.fixed, **params})
    assert chosen.command_class == order.command_class
    for platform in action.elsewhere:
        assert pins.class_of(order, platform) == action.on(platform).danger
