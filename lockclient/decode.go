package lockclient

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// What is read from Redis may have been written by anyone: everything here
// refuses what it does not understand, and never panics.

// An answer is that of acquire.lua.
type answer struct {
	held     bool
	fence    uint64        // when held; else the holder's
	position int           // in the queue, from 1; 0 for a try
	pttl     time.Duration // until the holder's hold ends; negative if never
	place    string
	holder   string // the lock's value
}

func decodeAnswer(reply []any) (answer, bool) {
	switch {
	case len(reply) == 3 && reply[0] == int64(1):
		fence, ok := decodeFence(reply[1])
		return answer{held: true, fence: fence}, ok
	case len(reply) == 5 && reply[0] == int64(0):
		position, ok1 := reply[1].(int64)
		pttl, ok2 := reply[2].(int64)
		place, ok3 := reply[3].(string)
		holder, ok4 := reply[4].(string)
		v, _ := decodeValue(holder)
		return answer{position: int(position), pttl: remaining(pttl), place: place, holder: holder, fence: v.fence},
			ok1 && ok2 && ok3 && ok4
	}
	return answer{}, false
}

func decodeFence(v any) (uint64, bool) {
	s, ok := v.(string)
	if !ok {
		return 0, false
	}
	fence, err := strconv.ParseUint(s, 10, 64)
	return fence, err == nil && fence > 0
}

// millis is a number of milliseconds that somebody wrote, within reason.
func millis(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), MaxTTL.Milliseconds()*2)) * time.Millisecond
}

// remaining is what PTTL answered: -1 for a key that stays, -2 for none.
func remaining(pttl int64) time.Duration {
	if pttl < 0 {
		return -1
	}
	return max(millis(pttl), time.Millisecond)
}

// A value is that of a lock's key: "id|fence|since ms|meta".
type value struct {
	id     string
	fence  uint64
	holder Holder
	ttl    time.Duration
}

func decodeValue(s string) (value, bool) {
	id, rest, ok := strings.Cut(s, "|")
	fence, rest, ok2 := strings.Cut(rest, "|")
	since, m, ok3 := strings.Cut(rest, "|")
	if !ok || !ok2 || !ok3 {
		return value{}, false
	}
	v := value{id: id}
	f, err := strconv.ParseUint(fence, 10, 64)
	if err != nil {
		return value{}, false
	}
	ms, err := strconv.ParseInt(since, 10, 64)
	if err != nil {
		return value{}, false
	}
	v.fence = f
	v.holder, v.ttl = decodeMeta(id, m)
	v.holder.Since = time.UnixMilli(ms).UTC()
	return v, true
}

// decodeMeta reads what a client wrote of itself; what is missing stays empty.
func decodeMeta(id, s string) (Holder, time.Duration) {
	var m meta
	if err := json.Unmarshal([]byte(s), &m); err != nil || m.Node == "" {
		node, _, _ := strings.Cut(id, "/")
		m.Node, _ = unescape(node)
	}
	return Holder{Node: m.Node, PID: m.PID, Command: m.Command}, millis(m.TTL)
}

// decodeWaiter reads the record of the waiter id, see handover.lua.
func decodeWaiter(id, record string) (Waiter, bool) {
	parts := strings.SplitN(record, "|", 5)
	if len(parts) != 5 {
		return Waiter{}, false
	}
	h, _ := decodeMeta(id, parts[4])
	return Waiter{Node: h.Node, PID: h.PID, Command: h.Command}, true
}

// A message is what one process tells another through its channel.
type message struct {
	kind  string // grant, or lost
	id    string
	fence uint64
	claim time.Duration
	key   string // of the lock
}

func decodeMessage(payload string) (message, bool) {
	parts := strings.SplitN(payload, " ", 5)
	if len(parts) != 5 || parts[0] != "grant" && parts[0] != "lost" {
		return message{}, false
	}
	fence, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil {
		return message{}, false
	}
	claim, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil {
		return message{}, false
	}
	return message{kind: parts[0], id: parts[1], fence: fence, claim: millis(claim), key: parts[4]}, true
}

// decodeOutcome reads what release.lua and renew.lua answer: nil for done,
// else ErrExpired or ErrStolen.
func decodeOutcome(what string, reply []any) error {
	if len(reply) > 0 {
		switch reply[0] {
		case int64(1):
			return nil
		case int64(0):
			return ErrExpired
		case int64(-1):
			return ErrStolen
		}
	}
	return errReply(what, reply)
}
