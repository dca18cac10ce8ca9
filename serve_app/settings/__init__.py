"""The settings of the service, which are the `args:` of serve_config.yaml."""

from serve_app.settings.limits import LimitSettings
from serve_app.settings.sections import PromptEnhancerSettings
from serve_app.settings.settings import GENERATOR_STARTS, Settings, describe, parse_settings

__all__ = ["GENERATOR_STARTS", "LimitSettings", "PromptEnhancerSettings", "Settings", "describe", "parse_settings"]
