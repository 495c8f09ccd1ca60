package web

import (
	"strconv"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// Locks is the table of locks.
type Locks struct {
	Total   string `json:"total"`
	Empty   bool   `json:"empty"`
	Problem string `json:"problem"`
	Fix     string `json:"fix"`
	Tone    string `json:"tone"` // bad, unless the problem is that nobody wanted a Redis
	Rows    []Lock `json:"rows"`
}

// Lock is one row.
type Lock struct {
	Key     string   `json:"key"`
	Name    string   `json:"name"`
	Link    string   `json:"link"`
	State   string   `json:"state"` // held, or freed: only waited for
	Node    string   `json:"node"`
	Process string   `json:"process"`
	Dead    string   `json:"dead"` // what gossip says of the holder's peer, when not well
	Fence   string   `json:"fence"`
	Left    string   `json:"left"`
	LeftMS  string   `json:"left_ms"`
	TTLMS   string   `json:"ttl_ms"`
	Waiters []Waiter `json:"waiters"`
}

// Waiter is one place in a lock's queue.
type Waiter struct {
	Key  string `json:"key"`
	Text string `json:"text"`
}

// oldLook is the age from which on a look at the locks is called old. The page
// asks every 2 s.
const oldLook = 3 * time.Second

func locks(s Snapshot, now time.Time) Locks {
	out := Locks{Total: plural(len(s.Locks.Locks), "lock"), Rows: make([]Lock, 0, len(s.Locks.Locks))}
	if s.LocksAge > oldLook {
		out.Total += ", as of " + span(s.LocksAge) + " ago"
	}
	if p := s.LocksProblem; p != nil {
		out.Total, out.Problem, out.Fix = "", plain(p.Error()), plain(p.Fix)
		if p.Kind() != api.KindNoRedis {
			out.Tone = "bad"
		}
		return out
	}
	out.Empty = len(s.Locks.Locks) == 0
	states := map[string]string{}
	for _, m := range s.Members.Members {
		if states[m.Name] != "alive" { // of two with one name the live one may hold it
			states[m.Name] = m.State
		}
	}
	for _, l := range s.Locks.Locks {
		out.Rows = append(out.Rows, lock(l, states, now))
	}
	return out
}

func lock(l api.Lock, states map[string]string, now time.Time) Lock {
	r := Lock{
		Key:     l.Name,
		Name:    plain(l.Name),
		Link:    pathOf("/v1/locks", l.Name),
		State:   "freed",
		Node:    "nobody yet",
		Fence:   strconv.FormatUint(l.Fence, 10),
		Left:    "–",
		LeftMS:  "0",
		TTLMS:   strconv.FormatInt(max(l.TTLMS, 1), 10),
		Waiters: make([]Waiter, 0, len(l.Waiters)),
	}
	if h := l.Holder; h != nil {
		r.State, r.Node = "held", plain(h.Node)
		r.Process = process(h, now)
		if st := states[h.Node]; st != "" && st != "alive" {
			r.Dead = st // a hint: only its lease ends its hold
		}
		r.Left = span(time.Duration(l.ExpiresInMS)*time.Millisecond) + " of " + span(time.Duration(l.TTLMS)*time.Millisecond)
		r.LeftMS = strconv.FormatInt(max(l.ExpiresInMS, 0), 10)
	}
	for _, w := range l.Waiters {
		text := w.Node
		if w.PID != 0 {
			text += " " + strconv.Itoa(w.PID)
		}
		r.Waiters = append(r.Waiters, Waiter{Key: key(w.Position, text), Text: plain(text)})
	}
	return r
}

// process says what holds a lock, and for how long.
func process(h *api.LockHolder, now time.Time) string {
	var words []string
	if h.Command != "" {
		words = append(words, plain(h.Command))
	}
	if h.PID != 0 {
		words = append(words, "pid "+strconv.Itoa(h.PID))
	}
	if h.Since != nil {
		words = append(words, "for "+span(now.Sub(*h.Since)))
	}
	return strings.Join(words, ", ")
}
