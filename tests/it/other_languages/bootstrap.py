"""Stands in for Lambda's managed Python runtime in the tests: loads a handler file and speaks the Runtime API.

Usage: bootstrap.py FILE; calls the function `handler` of FILE.
"""

import http.client
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

API = "/2018-06-01/runtime"


class Context:
    def __init__(self, headers):
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return self._deadline_ms - int(time.time() * 1000)


def call(method, path, body=None):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, API + path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.headers, content


def load(file):
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location("handler", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


def main():
    try:
        handler = load(Path(sys.argv[1]))
    except Exception as error:
        call("POST", "/init/error", {"errorMessage": str(error), "errorType": type(error).__name__})
        raise
    while True:
        headers, event = call("GET", "/invocation/next")
        context = Context(headers)
        try:
            result = handler(json.loads(event), context)
            call("POST", f"/invocation/{context.aws_request_id}/response", result)
        except Exception as error:
            told = {"errorMessage": str(error), "errorType": type(error).__name__}
            call("POST", f"/invocation/{context.aws_request_id}/error", told)


main()
