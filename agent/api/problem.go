package api

import "net/http"

// ProblemType is the prefix of every Problem.Type. What follows it is stable:
// programs may act on it.
const ProblemType = "urn:peer:error:"

// Kinds of problems that callers act on: the part of Problem.Type after
// ProblemType. The endpoint has a few more.
const (
	KindBadRequest     = "bad-request"      // 400: a parameter or a body that does not parse
	KindUnauthorized   = "unauthorized"     // 401: no token, or not the right one
	KindForbidden      = "forbidden"        // 403: a request that a foreign web page made
	KindNotFound       = "not-found"        // 404: no such path
	KindNoMember       = "no-such-member"   // 404
	KindLiving         = "member-not-gone"  // 409: only the failed and the left are forgotten
	KindNoLock         = "no-such-lock"     // 404: nobody holds it or waits for it
	KindNoService      = "no-such-service"  // 404: no host runs it, or not this one
	KindServiceFixed   = "service-fixed"    // 409: it stands in the agent's configuration
	KindNotTTL         = "not-a-ttl-check"  // 409: a sign of life for a check of another kind
	KindNotKept        = "not-kept"         // 500: the data dir does not take it
	KindNoPeers        = "no-peers"         // 503: nobody is live
	KindNoMatch        = "no-match"         // 503: some are live, none is what was asked for
	KindNoRedis        = "no-redis"         // 503: no Redis is configured
	KindRedis          = "redis"            // 502: the Redis does not do what it is asked
	KindJoinFailed     = "join-failed"      // 502: no address answered
	KindMisdirected    = "host-not-allowed" // 421: the Host header is not on the allow-list
	KindTooManyStreams = "too-many-streams" // 503
	KindInternal       = "internal"         // 500
)

// NewProblem returns a Problem of a kind, titled kind by kind or, where the
// kind is new, by its status. Agents return one where they want a status and a
// text of their own on the wire.
func NewProblem(status int, kind, detail, fix string) *Problem {
	title, ok := problemTitles[kind]
	if !ok {
		title = http.StatusText(status)
	}
	return &Problem{Type: ProblemType + kind, Title: title, Status: status, Detail: detail, Fix: fix}
}

var problemTitles = map[string]string{
	KindBadRequest:     "bad request",
	KindUnauthorized:   "token required",
	KindForbidden:      "request from a foreign page",
	KindNotFound:       "no such path",
	KindNoMember:       "no such member",
	KindLiving:         "member is not gone",
	KindNoLock:         "no such lock",
	KindNoService:      "no such service",
	KindServiceFixed:   "the service stands in the configuration",
	KindNotTTL:         "no ttl check",
	KindNotKept:        "the registration cannot be kept",
	KindNoPeers:        "no live peer",
	KindNoMatch:        "no live peer matches",
	KindNoRedis:        "no Redis configured",
	KindLockHeld:       "lock is held",
	KindLockLost:       "lock lost",
	KindNoLease:        "no such lease",
	KindTooManyLeases:  "too many leases",
	KindStopping:       "the agent is stopping",
	KindRedis:          "the shared Redis does not answer as it should",
	KindJoinFailed:     "no address answered",
	KindMisdirected:    "host not allowed",
	KindTooManyStreams: "too many event streams",
	KindInternal:       "internal error",
}

// Kind returns the part of Type that programs act on, without ProblemType.
func (p *Problem) Kind() string {
	if len(p.Type) > len(ProblemType) && p.Type[:len(ProblemType)] == ProblemType {
		return p.Type[len(ProblemType):]
	}
	return ""
}
