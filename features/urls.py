"""The pages of the features room, each with the role that it takes (features.routes)."""

from django.contrib.auth.views import LogoutView

from features.models.member import Role
from features.routes import administrator, anyone, researcher, viewer
from features.views import (
    account,
    browse,
    collections,
    compare,
    feature,
    go,
    maps,
    members,
    model,
    people,
    run,
    sae,
    search,
    selection,
)

urlpatterns = [
    viewer("", browse.home, name="home"),
    viewer("go/", go.goto, name="goto"),
    viewer("search/", search.search_page, name="search"),
    viewer("saes/<slug:slug>/", sae.sae_page, name="sae"),
    viewer("saes/<slug:slug>/plots/<slug:name>.json", sae.plot, name="plot"),
    viewer("saes/<slug:slug>/map/data/", maps.map_data, name="map_data"),
    viewer("saes/<slug:slug>/map/kinds/", maps.map_kinds, name="map_kinds"),
    viewer("saes/<slug:slug>/map/label/", maps.map_label, name="map_label"),
    viewer("saes/<slug:slug>/map/matches/", maps.map_matches, name="map_matches"),
    viewer("saes/<slug:slug>/map/chosen/", maps.map_chosen, name="map_chosen"),
    viewer("saes/<slug:slug>/features/", browse.feature_table, name="features"),
    viewer("saes/<slug:slug>/features/<int:index>/", feature.feature_page, name="feature"),
    viewer("saes/<slug:slug>/features/<int:index>/contexts/<int:number>/", feature.context, name="context"),
    viewer("saes/<slug:slug>/features/<int:index>/people/", people.people, name="people"),
    researcher("saes/<slug:slug>/features/<int:index>/label/", people.label, name="label"),
    researcher("saes/<slug:slug>/features/<int:index>/label/withdraw/", people.withdraw, name="withdraw"),
    researcher("saes/<slug:slug>/features/<int:index>/labels/<int:pk>/show/", people.show_label, name="show_label"),
    researcher("saes/<slug:slug>/features/<int:index>/labels/<int:pk>/vote/", people.vote, name="vote"),
    researcher(
        "saes/<slug:slug>/features/<int:index>/changes/<uuid:batch>/undo/", people.undo_batch, name="undo_batch"
    ),
    viewer("saes/<slug:slug>/features/<int:index>/star/", people.star, name="star"),
    researcher("saes/<slug:slug>/features/<int:index>/tag/", people.tag, name="tag"),
    researcher("saes/<slug:slug>/features/<int:index>/collect/", people.collect, name="collect"),
    researcher("saes/<slug:slug>/features/<int:index>/comments/", people.comment, name="comment"),
    researcher(
        "saes/<slug:slug>/features/<int:index>/comments/<int:pk>/delete/", people.delete_comment, name="comment_delete"
    ),
    viewer("compare/", compare.compare, name="compare"),
    viewer("compare/runs/", compare.compare_runs, name="compare_runs"),
    viewer("compare/runs/densities.json", compare.compare_plot, name="compare_plot"),
    viewer("compare/saes/", compare.compare_saes, name="compare_saes"),
    researcher("selection/", selection.selection, name="selection"),
    researcher("undo/", people.undo_view, name="undo"),
    viewer("tags/", people.tag_options, name="tag_options"),
    viewer("collections/", collections.collections, name="collections", writes=Role.RESEARCHER),
    viewer("collections/-/options/", collections.options, name="collection_options"),
    viewer("collections/<slug:slug>/", collections.collection, name="collection"),
    researcher("collections/<slug:slug>/edit/", collections.edit, name="collection_edit"),
    researcher("collections/<slug:slug>/delete/", collections.delete, name="collection_delete"),
    researcher("collections/<slug:slug>/add/", collections.add, name="collection_add"),
    researcher("collections/<slug:slug>/items/<int:pk>/", collections.item, name="collection_item"),
    viewer("collections/<slug:slug>/export.<slug:kind>", collections.export, name="collection_export"),
    viewer("models/", model.model_list, name="models"),
    viewer("models/<slug:slug>/", model.model_page, name="model"),
    viewer("runs/<int:pk>/", run.run_page, name="run"),
    anyone("login/", account.SignIn.as_view(), name="login"),
    anyone("login/<str:token>/", account.login_token, name="login_token"),
    anyone("logout/", LogoutView.as_view(), name="logout"),
    viewer("account/keys/", account.keys, name="keys"),
    viewer("account/keys/<int:pk>/revoke/", account.revoke_key, name="key_revoke"),
    administrator("members/", members.members, name="members"),
]
