"""What each route takes and answers: declarations, which ``web.openapi`` writes out.

They stand beside ``web.routes.table``. A test holds that each route has one; that the
statuses and types are those that really come, schemathesis tries on a live server.
"""

from __future__ import annotations

from ledger.jobs import State
from web import shapes
from web.bodies import CHECKED, KEYED, NEW, RAW, RENAMED, SUBMITTED
from web.declarations import (
    BYTES,
    HTML,
    JSON,
    PAGE,
    PAGE_200,
    TEXT,
    WORD,
    ZIP,
    Answer,
    Body,
    Operation,
    Parameter,
    Schema,
    done,
    file,
    in_path,
    json,
    lead,
    number,
    query,
)
from web.logsearch import LONGEST
from web.metrics import CONTENT_TYPE as METRICS

ID = in_path("id", "The job.", pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
MODEL = in_path("model", "The model.")
PATH = in_path("path", "A file of the output, with its folders.")
KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Chosen by the sender, such as a UUID. Sent again with the same submission it answers with "
    "the job that exists; so a submission whose answer was lost can be repeated.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    example="8e03978e-40d5-43dd-bc93-6894a57f9324",
)
SINCE = Parameter(
    "If-None-Match",
    "header",
    "An ETag: where nothing has changed, 304.",
    {"type": "string"},
    example='W/"71798f14b8e0cf8a09"',
)
RANGE = Parameter("Range", "header", "One range of bytes.", {"type": "string"}, example="bytes=0-9")
_DATE: Schema = {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}
AFTER = number("after", "The last sequence number that is known.", 12)
WAIT = Parameter(
    "wait",
    "query",
    "Seconds to wait where there is nothing new.",
    {"type": "number", "minimum": 0},
    example=0.5,
)
_LISTED = (
    Parameter(
        "state",
        "query",
        "Only jobs in these states; may be given more than once.",
        {"type": "array", "items": {"type": "string", "enum": list(State)}},
        example=["RUNNING", "QUEUED"],
    ),
    query("model", "Only jobs of this model.", "wordcount"),
    query("q", "Text in the job's name, in any case, or the beginning of its id.", "Rhine"),
    Parameter("from", "query", "The first day (UTC) or time.", _DATE, example="2026-11-23"),
    Parameter("to", "query", "The last day (UTC) or time.", _DATE, example="2026-11-23"),
    number("before", "The `next` of the page before this one.", 1200),
    number("limit", "Jobs in one answer, at most 10,000 (JSON) or 1,000 (page).", 50, 1),
)
_ENTERED = done(shapes.Submission, "The job was entered.")
_ENTER_PROBLEMS = (400, 403, 409, 413, 415, 422, 507)
_LOG_TOLD = ("X-Log-Attempt", "X-Log-Final", "X-Log-Offset", "X-Log-Size")

# --- the routes

HOME = Operation("pages", "Leads to the models.", {303: lead("To /models.")}, needs="none")
LIST = Operation(
    "jobs",
    "The jobs, newest first.",
    json(shapes.JobList, "The jobs.", page=True, may=("Link",)),
    (400,),
    (*_LISTED, SINCE),
)
SUBMIT = Operation(
    "jobs",
    "Submits a job.",
    _ENTERED,
    _ENTER_PROBLEMS,
    (
        query("job_name", "Needed beside the zip itself as the body.", "Dry year"),
        query("model", "Needed beside the zip itself as the body.", "wordcount"),
        KEY,
    ),
    SUBMITTED,
    needs="submit",
)
PUT = Operation(
    "jobs",
    "Submits a job: the zip as the body.",
    _ENTERED,
    _ENTER_PROBLEMS,
    (*NEW, KEY),
    Body("The zip, with any Content-Type.", RAW),
    needs="submit",
)
FORM = Operation(
    "pages",
    "The form for a new job.",
    PAGE_200,
    (400,),
    (
        query("model", "The model to begin with.", "wordcount"),
        query("name", "The name to begin with.", "first try"),
    ),
    needs="submit",
)
SHOW = Operation(
    "jobs", "One job.", json(shapes.JobDetail, "The job.", page=True), (404,), (ID, SINCE)
)
STATE = Operation(
    "jobs",
    "What changes of a job, for polling.",
    json(shapes.JobState, "Its state."),
    (404,),
    (ID, SINCE),
)
KILL = Operation(
    "jobs",
    "Ends a job; where it runs, its processes are ended first.",
    done(shapes.Submission, "Its end was asked for."),
    (403, 404, 409, 507),
    (ID,),
    needs="kill",
)
KILL_BY_GET = Operation(
    "jobs",
    "Ends a job, for scripts alone; what comes from a browser is refused.",
    {200: Answer("Its end was asked for.", {JSON: shapes.Submission})},
    (403, 404, 405, 409, 507),
    (ID,),
    needs="kill",
)
RERUN = Operation(
    "jobs",
    "Submits a new job with the input of this one.",
    _ENTERED,
    (*_ENTER_PROBLEMS, 404),
    (ID, KEY),
    RENAMED,
    needs="submit",
)
EVENTS = Operation(
    "jobs",
    "A job's lines of the ledger; waits for one, up to 30 s.",
    json(shapes.Records, "Its records, oldest first."),
    (400, 404),
    (ID, AFTER, WAIT, SINCE),
)
FILE = Operation(
    "files",
    "A job's input, log or output. The log is live while the model runs.",
    file((ZIP, TEXT), "The file."),
    (404, 416),
    (
        ID,
        in_path("name", "The file.", enum=["input.zip", "job_log.txt", "output.zip"]),
        RANGE,
        SINCE,
    ),
)
LOG = Operation(
    "files",
    "A job's log, for following it: the next offset is X-Log-Size, until X-Log-Final.",
    {
        200: Answer("What the log holds from there.", {TEXT: PAGE}, headers=("ETag", *_LOG_TOLD)),
        206: Answer(
            "The range of it.", {TEXT: PAGE}, headers=("ETag", "Content-Range", *_LOG_TOLD)
        ),
        304: Answer("As it was: nothing is sent.", {}, headers=("ETag", *_LOG_TOLD)),
    },
    (400, 404, 416),
    (
        ID,
        number("offset", "The first byte that is wanted.", 65536),
        number("tail", "The last bytes that are wanted, and no more.", 4096),
        RANGE,
        SINCE,
    ),
)
SEARCH_LOG = Operation(
    "files",
    "The lines of a log that hold a text, in any case.",
    json(shapes.LogMatches, "The lines; at most 64 MiB are read for one answer.", page=True),
    (400, 404),
    (
        ID,
        Parameter("q", "query", "The text.", WORD | {"maxLength": LONGEST}, True, "error"),
        number("from", "The byte at which to begin.", 0),
        number("limit", "Lines in one answer.", 20, 1),
        SINCE,
    ),
)
OUTPUTS = Operation(
    "files",
    "The files in a job's output.",
    json(shapes.OutputFiles, "The files.", page=True),
    (400, 404),
    (ID, query("after", "A page begins after this path.", "maps/b.png"), SINCE),
)
OUTPUT = Operation(
    "files",
    "One file out of a job's output, as a download.",
    file(("*/*",), "The file."),
    (404,),
    (ID, PATH, SINCE),
)
PREVIEW = Operation(
    "files",
    "The beginning of an output file.",
    json(shapes.Preview, "A table's first rows, a text's first lines.", page=True),
    (400, 404),
    (ID, PATH, query("part", "1: only the fragment of HTML.", "1", enum=["1"]), SINCE),
)
NEWS = Operation(
    "service",
    "The ledger's lines after one; waits for one, up to 30 s.",
    json(shapes.News, "The newest sequence number, and the records."),
    (400,),
    (
        AFTER,
        WAIT,
        number("limit", "Records in one answer, at most 1,000.", 100),
        SINCE,
    ),
)
NODES = Operation(
    "nodes",
    "The primary and the workers.",
    json(shapes.NodeList, "The nodes.", page=True),
    (),
    (SINCE,),
)
REFRESH = Operation(
    "nodes", "Does nothing: what /status says is fresh.", json(shapes.Message, "OK.")
)
TIMELINE = Operation(
    "nodes",
    "Which worker ran what.",
    json(shapes.Timeline, "The runs, the newest first."),
    (400,),
    (number("hours", "How far back, at most 168.", 24, 1), SINCE),
)
MODELS = Operation(
    "models",
    "The models.",
    json(shapes.ModelList, "What each takes and gives.", page=True),
    (),
    (SINCE,),
)
EXAMPLE = Operation(
    "models",
    "A model's example of an input.",
    file((ZIP,), "The zip."),
    (404, 416),
    (MODEL, RANGE, SINCE),
)
RUN_EXAMPLE = Operation(
    "models",
    "Submits a job with a model's example.",
    _ENTERED,
    (400, 403, 404, 409, 422, 507),
    (MODEL, KEY),
    needs="submit",
)
VALIDATE = Operation(
    "models",
    "Checks an input, and submits nothing.",
    {200: Answer("The input is good.", {JSON: shapes.Message, HTML: PAGE})},
    (400, 403, 404, 413, 415, 507),
    (MODEL,),
    CHECKED,
    needs="submit",
)
SIGN_IN_FORM = Operation(
    "signing in",
    "The form for a key; as JSON, who is asking.",
    json(shapes.Identity, "Who is asking.", page=True),
    (401, 429),
    (SINCE,),
    needs="none",
)
SIGN_IN = Operation(
    "signing in",
    "Signs a browser in.",
    {
        303: Answer(
            "To where the form was asked for, or to the jobs.",
            {},
            headers=("Location", "Set-Cookie"),
        )
    },
    (400, 403, 413, 415, 429),
    (),
    KEYED,
    needs="none",
)
SIGN_IN_BY_ADDRESS = Operation(
    "signing in",
    "Signs a browser in.",
    {303: Answer("To the jobs.", {}, headers=("Location", "Set-Cookie"))},
    (403, 429),
    (in_path("key", "The key."),),
    needs="none",
)
SIGN_OUT = Operation(
    "signing in",
    "Signs a browser out.",
    {
        303: Answer(
            "To where it was asked for, or to the jobs.", {}, headers=("Location", "Set-Cookie")
        )
    },
    (403,),
    needs="none",
)
DOCTOR = Operation(
    "service",
    "What the server's keeper should know.",
    json(shapes.Findings, "The findings.", page=True),
    (),
    (SINCE,),
)
HEALTH = Operation(
    "service",
    "Whether all is well; else 503 says why.",
    json(shapes.Health, "It is."),
    needs="none",
)
FIGURES = Operation(
    "service",
    "Figures for a monitoring system.",
    {200: Answer("In Prometheus's text format.", {METRICS.partition(";")[0]: PAGE})},
)
DESCRIPTION = Operation(
    "service",
    "This document.",
    json({"type": "object"}, "OpenAPI 3.1."),
    (),
    (SINCE,),
    needs="none",
)
STATIC = Operation(
    "pages",
    "What the pages are made of: styles, scripts, icons.",
    {
        200: Answer("The file.", {"*/*": BYTES}),
        206: Answer("The range of it.", {"*/*": BYTES}),
        304: Answer("As it was.", {}),
    },
    (404, 416),
    (in_path("name", "The file."),),
    needs="none",
)
