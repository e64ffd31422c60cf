"""No number moves unnoticed: each template on each sample gives what golden.json holds (`make golden` writes it)."""

import json

import golden


def test_every_template_gives_the_same_numbers_on_every_sample():
    stored, today = json.loads(golden.STORED.read_text(encoding="utf-8")), golden.today()
    moved = {
        f"{name}, {what}": (stored[name].get(what), value)
        for name in stored.keys() & today.keys()
        for what, value in today[name].items()
        if stored[name].get(what) != value
    }
    assert stored.keys() == today.keys()
    assert not moved
