"""Rows of persons in Tracardi's predefined events.

Source: GitHub Tracardi/tracardi, tracardi/service/setup/events/data.json, customer.json and
identity.json. Since version 0.8.2 e-mail address and phone number are objects.
"""

from gateway.plugin import NUMBER, TEXT, Row
from plugins.tracardi.values import ADDRESS, BIRTHDAY, PHONE

# fmt: off
PROFILE = (
    #   Tracardi                        event
    Row("identifier.id|identifier.pk",  "user_id",              TEXT),
    Row("pii.firstname",                "traits.first_name"),
    Row("pii.lastname",                 "traits.last_name"),
    Row("pii.display_name|pii.name",    "traits.name"),
    Row("pii.birthday",                 "traits.birthday",      BIRTHDAY),
    Row("pii.gender",                   "traits.gender"),
    Row("contact.email.main|contact.email", "traits.email"),
    Row("contact.phone.main|contact.phone", "traits.phone",         PHONE),
    Row("contact.address",              "traits.address",       ADDRESS),
    Row("media.image",                  "traits.avatar"),
    Row("media.webpage",                "traits.website"),
    Row("job.position",                 "traits.title"),
    Row("job.company",                  "traits.company"),
    Row("age",                          "traits.age",           NUMBER),
    Row("username",                     "traits.username"),
    Row("description",                  "traits.description"),
    Row("created_at",                   "traits.created_at"),
    Row("*",                            "traits.extra"),
)
IDENTIFICATION = (
    Row("id|pk",                        "user_id",              TEXT),
    Row("login",                        "traits.username"),
    Row("firstname",                    "traits.first_name"),
    Row("lastname",                     "traits.last_name"),
    Row("email.main|email",             "traits.email"),
    Row("phone.main|phone",             "traits.phone",         PHONE),
    Row("*",                            "traits.extra"),
)
# fmt: on
"""Relative to ``properties`` on Tracardi's side."""
