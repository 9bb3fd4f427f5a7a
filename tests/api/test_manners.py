"""The manners every route keeps."""

import httpx


async def test_start(client: httpx.AsyncClient):
    """A key is made, listed, read and ended."""
    made = await client.post("/v1/keys", json={"name": "x", "scopes": ["stats:read"]})
    print(made.text, made.headers)
    assert made.status_code == 201
    for call in [client.get("/v1/keys?include_total=true&limit=1"), client.get("/v1/keys/99999999999999999999999"), client.get("/v1/keys?limit=0&x=1"), client.get("/v1/keys?limit=0"), client.get("/v1/keys?cursor=foo"),
        client.get("/nowhere"), client.put("/v1/keys"), client.head("/v1/keys"), client.delete("/v1/keys/1"), client.post("/v1/keys", content="{"), client.post("/v1/keys", json={"x": 1, "name": 5, "scopes": []}),
        client.post("/v1/keys", json={"name": "", "scopes": ["f"]}), client.post("/v1/keys", data={"name": "", "scopes": ["f"]}), client.post("/v1/keys"), client.post("/v1/keys", json={"name": "x" * 2_000_000, "scopes": ["f"]}),
        client.post("/v1/keys", headers={"Authorization": "bearer x"}), client.delete(f"/v1/keys/{made.json()['id']}")]:
        answer = await call
        print(answer.request.method, answer.request.url, answer.status_code, answer.text[:400], dict(answer.headers))
