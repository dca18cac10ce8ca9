"""Alerts: conditions of the service that an operator should know."""

from serve_app.api.health import find_problems
from serve_app.api.live.messages import Message
from serve_app.api.services import Services


async def read_alerts(services: Services) -> dict[str, Message]:
    """Returns the present alerts by their ids. An alert that is no longer returned has ended."""
    alerts = [
        {
            "id": problem.code,
            "level": problem.level,
            "code": problem.code,
            "message": problem.message,
            "suggestions": [problem.suggestion],
            "task_id": None,
            "active": True,
        }
        for problem in await find_problems(services)
    ]
    return {str(alert["id"]): ("alert", alert) for alert in alerts}
