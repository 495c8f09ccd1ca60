// Package api holds the JSON shapes of a peer's local HTTP endpoint and a
// client for them. It is a leaf: it imports nothing of this module, so that any
// Go program can talk to the agent beside it.
//
// Times are RFC 3339 in UTC, durations are numbers in milliseconds (fields
// ending in _ms), enumerations are strings, and arrays are never null.
package api

import "time"

// Schemas name the shape of a document; they change only with a new /vN.
const (
	SchemaMembers  = "peer.members/v1"
	SchemaNext     = "peer.next/v1"
	SchemaStatus   = "peer.status/v1"
	SchemaLocks    = "peer.locks/v1"
	SchemaServices = "peer.services/v1"
)

// Members answers GET /v1/members.
type Members struct {
	Schema  string    `json:"schema"`
	SeenBy  string    `json:"seen_by"`
	Index   uint64    `json:"index"` // moves only when the members change
	AsOf    time.Time `json:"as_of"`
	Members []Member  `json:"members"` // sorted by name
}

// Member is one peer as SeenBy sees it.
type Member struct {
	Name           string            `json:"name"`
	Instance       string            `json:"instance"` // one start of a peer, 16 hex digits
	Addr           string            `json:"addr"`     // gossip address, host:port
	Self           bool              `json:"self"`
	State          string            `json:"state"` // alive, suspect, failed, left
	Cause          string            `json:"cause"` // "" or one of the Cause constants
	Since          time.Time         `json:"since"`
	HeartbeatAgeMS int64             `json:"heartbeat_age_ms"`
	RTTMS          *float64          `json:"rtt_ms"` // null until measured
	Flaps          int               `json:"flaps"`  // how often it came back from suspect or failed
	Version        string            `json:"version"`
	Tags           map[string]string `json:"tags"`
	Services       []Service         `json:"services"`
	Eligible       bool              `json:"eligible"`
}

// Service is something that runs beside a peer.
type Service struct {
	Name   string            `json:"name"`
	Addr   string            `json:"addr"`
	Port   uint16            `json:"port"`
	Tags   []string          `json:"tags"`
	Weight int               `json:"weight"`
	Health string            `json:"health"`
	Meta   map[string]string `json:"meta"`
	// Draining: it works on what it has and is handed nothing new.
	Draining bool `json:"draining"`
}

// Next answers GET /v1/next: the peers whose turn it is.
type Next struct {
	Schema string     `json:"schema"`
	Policy string     `json:"policy"`
	Peers  []NextPeer `json:"peers"`
	// Explain says where everybody stands, if it was asked for; then no turn was
	// taken.
	Explain []Standing `json:"explain,omitempty"`
}

// NextPeer is one peer handed out.
type NextPeer struct {
	Name    string            `json:"name"`
	Addr    string            `json:"addr"`
	Service string            `json:"service"`
	Port    uint16            `json:"port"`
	Tags    map[string]string `json:"tags"`
	RTTMS   *float64          `json:"rtt_ms"`
	// Tier says how fit it is: live, cooling (a request to it failed lately) or
	// last_resort (it warns). Other than live only when nobody better is left.
	Tier string `json:"tier"`
}

// Standing is how one peer stands in a rotation, and why.
type Standing struct {
	Name      string   `json:"name"`
	Addr      string   `json:"addr"`
	Port      uint16   `json:"port"`
	Rank      int      `json:"rank"`  // when it would be handed out, from 0; -1 never
	Tier      string   `json:"tier"`  // live, cooling, last_resort; "" when never
	Share     float64  `json:"share"` // of the turns, 0 to 1
	Strikes   int      `json:"strikes"`
	LatencyMS *float64 `json:"latency_ms"` // of the requests that were reported
	Why       string   `json:"why"`
}

// NextReport is the body of POST /v1/next/report: how a request to a peer that
// was handed out has gone.
type NextReport struct {
	Name      string  `json:"name"`
	Service   string  `json:"service,omitempty"`
	OK        bool    `json:"ok"`
	LatencyMS float64 `json:"latency_ms,omitempty"` // of a success; 0 if unknown
}

// Status answers GET /v1/status: this agent's one picture of itself and the
// cluster. The page, the command line and the metrics draw from the same value.
type Status struct {
	Schema   string         `json:"schema"`
	AsOf     time.Time      `json:"as_of"`
	Verdict  Verdict        `json:"verdict"`
	Node     StatusNode     `json:"node"`
	Cluster  StatusCluster  `json:"cluster"`
	Selector StatusSelector `json:"selector"`
	Locks    StatusLocks    `json:"locks"`
	Checks   []Check        `json:"checks"`
	Events   StatusEvents   `json:"events"`
	Warnings []Warning      `json:"warnings"`
}

// Verdict is the answer in one sentence.
type Verdict struct {
	OK      bool     `json:"ok"`
	Text    string   `json:"text"`
	Reasons []string `json:"reasons"`
}

// StatusNode is this agent.
type StatusNode struct {
	Name      string    `json:"name"`
	Instance  string    `json:"instance"`
	Addr      string    `json:"addr"`
	HTTPAddr  string    `json:"http_addr"`
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	Mode      string    `json:"mode"` // agent, or dev: many agents and an embedded Redis in one process
	StartedAt time.Time `json:"started_at"`
	State     string    `json:"state"` // starting, alive, leaving, left

	Trouble         string `json:"trouble"`           // what is wrong with this peer: "" or one of the Cause constants
	DampedMS        int64  `json:"damped_ms"`         // for how long all must be well before it is back in rotation
	LogLinesDropped uint64 `json:"log_lines_dropped"` // lines of the log that nobody took
}

// StatusCluster counts the members and tells how the gossip does.
type StatusCluster struct {
	Label             string       `json:"label"`
	Size              int          `json:"size"` // alive + suspect + failed + unseen
	Alive             int          `json:"alive"`
	Suspect           int          `json:"suspect"`
	Failed            int          `json:"failed"`
	Left              int          `json:"left"`
	HealthScore       int          `json:"health_score"` // memberlist's awareness: 0 is best
	Encrypted         bool         `json:"encrypted"`
	KeyFingerprint    string       `json:"key_fingerprint"`      // "" without a key; never the key
	HeartbeatLimitMS  int64        `json:"heartbeat_limit_ms"`   // older than this is overdue
	HeartbeatMaxAgeMS int64        `json:"heartbeat_max_age_ms"` // of the alive members
	Seeds             []StatusSeed `json:"seeds"`

	// Unseen are the members of an earlier run that were not seen since this start
	// and had not left, sorted by name. GET /v1/members does not have them.
	Unseen       []StatusUnseen `json:"unseen"`
	Suspicions   uint64         `json:"suspicions"`    // how often a member left rotation, as seen here
	Flaps        uint64         `json:"flaps"`         // how often one came back
	Stalls       uint64         `json:"stalls"`        // how often this process was held up for a second or more
	StalledMS    int64          `json:"stalled_ms"`    // altogether
	TableEntries int            `json:"table_entries"` // instances known, the departed included
}

// StatusUnseen is a member of an earlier run that was not seen since this start.
type StatusUnseen struct {
	Name     string    `json:"name"`
	Addr     string    `json:"addr"`      // where it was
	AbsentMS int64     `json:"absent_ms"` // for how long this agent ran without seeing it, earlier runs included
	Since    time.Time `json:"since"`     // the start of this agent
}

// StatusSeed is one address given by --join.
type StatusSeed struct {
	Addr      string     `json:"addr"`
	LastOKAt  *time.Time `json:"last_ok_at"`
	LastError string     `json:"last_error"`
}

// StatusSelector tells how many peers are handed out.
type StatusSelector struct {
	Eligible int `json:"eligible"`
}

// StatusLocks tells how the shared Redis does, and what this agent holds in it.
type StatusLocks struct {
	Backend LockBackend `json:"backend"`
	Held    int         `json:"held"`
	Waiting int         `json:"waiting"`
}

// LockBackend is the shared Redis. Without one Kind is "none".
type LockBackend struct {
	Kind      string   `json:"kind"` // redis, embedded, none
	Addr      string   `json:"addr"` // host:port, never with credentials
	Up        bool     `json:"up"`
	LatencyMS *float64 `json:"latency_ms"` // null until measured
	LastError string   `json:"last_error"`
}

// Check is one condition of readiness.
type Check struct {
	Name   string `json:"name"`   // gossip, joined, redis
	Status string `json:"status"` // pass, warn, fail; only fail makes the agent not ready
	Text   string `json:"text"`
}

// StatusEvents tells where the feed stands.
type StatusEvents struct {
	Seq    uint64 `json:"seq"`
	Oldest uint64 `json:"oldest"`
}

// Warning is something an operator should know, with the way to mend it.
type Warning struct {
	Code string `json:"code"`
	Text string `json:"text"`
	Fix  string `json:"fix"`
}

// Locks answers GET /v1/locks.
type Locks struct {
	Schema string `json:"schema"`
	Locks  []Lock `json:"locks"` // sorted by name
}

// Lock is one lock of the shared Redis that is held or waited for.
type Lock struct {
	Name        string       `json:"name"`
	Holder      *LockHolder  `json:"holder"` // null when only waited for
	Fence       uint64       `json:"fence"`
	ExpiresInMS int64        `json:"expires_in_ms"`
	TTLMS       int64        `json:"ttl_ms"`
	Waiters     []LockWaiter `json:"waiters"` // in order
}

// LockHolder is the process that holds a lock.
type LockHolder struct {
	Node    string     `json:"node"`
	PID     int        `json:"pid"`
	Command string     `json:"command"` // without its arguments
	Since   *time.Time `json:"since"`
}

// LockWaiter is one place in a lock's queue.
type LockWaiter struct {
	Node     string `json:"node"`
	PID      int    `json:"pid"`
	Position int    `json:"position"` // from 1
}

// Event is one entry of GET /v1/events.
type Event struct {
	Seq    uint64       `json:"seq"`
	Type   string       `json:"type"` // joined, updated, suspect, alive, failed, left, forgotten, lock_acquired, lock_released, lock_lost, redis_up, redis_down, reset
	At     time.Time    `json:"at"`
	Member *EventMember `json:"member,omitempty"`
	Lock   *EventLock   `json:"lock,omitempty"`
	Text   string       `json:"text"` // one line for a person
}

// EventMember is the member that an event is about.
type EventMember struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
	Addr     string `json:"addr"`
	State    string `json:"state"`
	Cause    string `json:"cause"`
}

// EventLock is the lock that an event is about.
type EventLock struct {
	Name  string `json:"name"`
	Node  string `json:"node"`
	Fence uint64 `json:"fence"`
}

// JoinRequest is the body of POST /v1/join.
type JoinRequest struct {
	Addrs []string `json:"addrs"`
}

// JoinResult answers POST /v1/join: 200 when any address answered, else 502.
type JoinResult struct {
	Joined []string    `json:"joined"`
	Errors []JoinError `json:"errors"`
}

// JoinError says why one address did not answer.
type JoinError struct {
	Addr  string `json:"addr"`
	Error string `json:"error"`
}

// Problem is an error of the HTTP endpoint (RFC 9457, application/problem+json).
type Problem struct {
	Type   string `json:"type"` // urn:peer:error:…, the stable key
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix"`

	Holder *LockHolder `json:"holder,omitempty"` // of KindLockHeld: who has the lock

	// Index is where a blocking read goes on, from the answer's X-Peer-Index
	// header: of KindNoService and KindNoMember. The client fills it in.
	Index uint64 `json:"-"`
}

// Error makes a Problem the error that the client returns.
func (p *Problem) Error() string {
	s := p.Title
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	return s
}
