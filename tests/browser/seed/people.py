"""What people have said of features: labels with votes and a history, notes, and two collections."""

from django.contrib.auth.models import User

from features.knowledge import collecting, labelling, notes
from features.models import ApiKey, Label
from tests.browser.seed.evidence import LABELLED, Made


def make(made: Made, ben: User) -> dict[str, str]:
    """The pages that come with it."""
    ada, labelled = made.user, made.features[LABELLED : LABELLED + 6]
    labelling.give(labelled, "months and seasons", ada, explanation="Names of months, and what they bring.")
    labelling.give(labelled[3:4], "winter, by Ben", ben)
    for user, value in ((ada, 1), (ben, -1)):
        labelling.vote(Label.objects.filter(feature=labelled[3]).latest("pk"), user, value)
    keys = [feature.pk for feature in made.features]
    notes.star([keys[LABELLED], keys[40]], ada)
    notes.tag(keys[LABELLED : LABELLED + 4], ["time", "to-check"], ada)
    notes.comment(labelled[0], "Fires on “ winter” far more than on the rest.\nSee 23.", ada)
    notes.delete_comment(notes.comment(labelled[0], "Never mind.", ben), ben)
    ApiKey.objects.issue(ada, "notebook")
    return collections(made)


def collections(made: Made) -> dict[str, str]:
    about = "What a *calendar* needs: see [SAE lists](https://example.org)."
    shared = collecting.create(made.user, "Time words", about, shared=True)
    collecting.add(shared, [feature.pk for feature in made.features[LABELLED : LABELLED + 12]], made.user)
    elsewhere = made.imported.sae.features.filter(index__in=range(5, 9)).order_by("index")
    collecting.add(shared, elsewhere.values_list("pk", flat=True), made.user)
    private = collecting.create(made.user, "Mine alone")
    collecting.add(private, [made.features[3].pk], made.user)
    return {"collection": shared.get_absolute_url(), "private collection": private.get_absolute_url()}
