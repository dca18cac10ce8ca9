"""The MCP server: tools with which AI agents make videos."""
