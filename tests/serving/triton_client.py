"""Triton's own client against a service: `triton_client.py HOST:PORT MODEL`, in an environment that has it. Its package
and this project's other tests cannot share one: it wants an older ml_dtypes. Prints the arrays that came as JSON."""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def main(address: str, model: str) -> None:
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    assert client.is_model_ready(model, "1") and not client.is_model_ready("nix")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    told = client.get_model_metadata(model)
    found = {"metadata": told, "drawn": []}
    for binary in (True, False):
        label = triton.InferInput("label", [2], "INT64")
        label.set_data_from_numpy(np.array([3, 4]), binary_data=binary)
        seed = triton.InferInput("seed", [2], "UINT64")
        seed.set_data_from_numpy(np.array([7, 2**64 - 1], np.uint64), binary_data=binary)
        for back in (True, False):
            output = triton.InferRequestedOutput("pixels", binary_data=back)
            answer = client.infer(model, [label, seed], outputs=[output], request_id="mine")
            assert answer.get_response()["id"] == "mine"
            found["drawn"].append(answer.as_numpy("pixels").tolist())
    answer = client.infer(model, [label], parameters={"temperature": 0.5, "top_k": 5, "seed": 9})
    found["settings"] = answer.as_numpy("pixels").tolist()
    told = {"timeout": 5_000_000, "priority": 1, "sequence_id": 3, "sequence_start": True, "sequence_end": True}
    found["drawn"].append(client.infer(model, [label, seed], **told).as_numpy("pixels").tolist())
    waiting = [client.async_infer(model, [label, seed]) for _ in range(4)]
    found["drawn"] += [one.get_result().as_numpy("pixels").tolist() for one in waiting]
    label.set_data_from_numpy(np.array([3, 10]))
    try:
        client.infer(model, [label])
    except InferenceServerException as error:
        found["refused"] = [error.status(), error.message()]
    client.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
