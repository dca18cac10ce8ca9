"""HAProxy in front of the ingress, in place of Ray Serve's own HTTP proxy, which costs ten times as much CPU time."""
