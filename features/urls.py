"""The pages of the features room."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from features.views import account, browse, feature, go, model, run, sae

urlpatterns = [
    path("", browse.home, name="home"),
    path("go/", go.goto, name="goto"),
    path("saes/<slug:slug>/", sae.sae_page, name="sae"),
    path("saes/<slug:slug>/plots/<slug:name>.json", sae.plot, name="plot"),
    path("saes/<slug:slug>/features/", browse.feature_table, name="features"),
    path("saes/<slug:slug>/features/<int:index>/", feature.feature_page, name="feature"),
    path("saes/<slug:slug>/features/<int:index>/contexts/<int:number>/", feature.context, name="context"),
    path("models/", model.model_list, name="models"),
    path("models/<slug:slug>/", model.model_page, name="model"),
    path("runs/<int:pk>/", run.run_page, name="run"),
    path("login/", account.SignIn.as_view(), name="login"),
    path("login/<str:token>/", account.login_token, name="login_token"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("account/keys/", account.keys, name="keys"),
    path("account/keys/<int:pk>/revoke/", account.revoke_key, name="key_revoke"),
]
