import json

from features.sharing import freezing, rendering
from tests.factories import World


def test_freezing_twice(world: World) -> None:
    one = freezing.freeze("feature", {"sae": world.sae.slug, "index": 9}, world.user)
    two = freezing.freeze("feature", {"sae": world.sae.slug, "index": 9}, world.user)
    assert one.pk == two.pk
    body = freezing.body_of(one)
    print(len(body), len(one.packed), json.loads(body)["title"])
    html = rendering.evidence_html(freezing.read(one), one.digest)
    print(len(html))
    for kind, named in [
        ("run", {"run": world.run.pk}),
        ("comparison", {"a": f"{world.sae.slug}/3", "b": f"{world.sae.slug}/9"}),
    ]:
        s = freezing.freeze(kind, named, world.user)
        html = rendering.evidence_html(freezing.read(s), s.digest)
        print(kind, len(freezing.body_of(s)), len(html), list(rendering.figures_of(freezing.read(s))))
