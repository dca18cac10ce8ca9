"""Request and response bodies of the API. Their docstrings are the descriptions in the OpenAPI document."""
