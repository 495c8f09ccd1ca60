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
	fence    uint64        // when held; else the last one granted
	since    int64         // when held: when it was granted, in server ms
	position int           // in the queue, from 1; 0 for a try
	pttl     time.Duration // until the first hold ends; negative if that is not known
	place    string
	holder   string // the value of one that holds it
}

func decodeAnswer(s string) (answer, bool) {
	kind, rest, _ := strings.Cut(s, " ")
	switch kind {
	case "1":
		fence, since, ok := strings.Cut(rest, " ")
		f, ok1 := decodeFence(fence)
		ms, err := strconv.ParseInt(since, 10, 64)
		return answer{held: true, fence: f, since: ms}, ok && ok1 && err == nil
	case "0":
		f := strings.SplitN(rest, " ", 5)
		if len(f) != 5 {
			return answer{}, false
		}
		position, err1 := strconv.Atoi(f[0])
		pttl, err2 := strconv.ParseInt(f[1], 10, 64)
		_, err3 := strconv.ParseUint(f[2], 10, 64)
		fence, err4 := strconv.ParseUint(f[3], 10, 64)
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil || position < 0 {
			return answer{}, false
		}
		return answer{position: position, pttl: remaining(pttl), place: f[2], fence: fence, holder: f[4]}, true
	}
	return answer{}, false
}

// decodeBeat reads what beat.lua answers for n waiters: answers without a place,
// position -1 for one in the queue that did not ask for it.
func decodeBeat(s string, n int) ([]answer, bool) {
	f := strings.SplitN(s, " ", 4)
	if len(f) != 4 {
		return nil, false
	}
	pttl, err1 := strconv.ParseInt(f[0], 10, 64)
	fence, err2 := strconv.ParseUint(f[1], 10, 64)
	positions := strings.Split(f[2], ",")
	if err1 != nil || err2 != nil || len(positions) != n {
		return nil, false
	}
	answers := make([]answer, n)
	for i, p := range positions {
		position, err := strconv.Atoi(p)
		if err != nil || position < -1 {
			return nil, false
		}
		answers[i] = answer{position: position, pttl: remaining(pttl), fence: fence, holder: f[3]}
	}
	return answers, true
}

func decodeFence(s string) (uint64, bool) {
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

// A value is that of a lock's key, or of a shared hold: "id|fence|since ms|meta".
type value struct {
	id     string
	fence  uint64
	holder Holder
	ttl    time.Duration
	shared bool
}

func decodeValue(s string) (value, bool) {
	f := strings.SplitN(s, "|", 4)
	if len(f) != 4 {
		return value{}, false
	}
	fence, err1 := strconv.ParseUint(f[1], 10, 64)
	since, err2 := strconv.ParseInt(f[2], 10, 64)
	if err1 != nil || err2 != nil {
		return value{}, false
	}
	v := value{id: f[0], fence: fence}
	v.holder, v.ttl, v.shared = decodeMeta(v.id, f[3])
	v.holder.Since = time.UnixMilli(since).UTC()
	return v, true
}

// encodeValue is what the scripts make of a hold.
func encodeValue(id string, fence uint64, since int64, meta string) string {
	return id + "|" + strconv.FormatUint(fence, 10) + "|" + strconv.FormatInt(since, 10) + "|" + meta
}

// decodeMeta reads what a client wrote of itself; what is missing stays empty.
func decodeMeta(id, s string) (h Holder, ttl time.Duration, shared bool) {
	var m meta
	if err := json.Unmarshal([]byte(s), &m); err != nil || m.Node == "" {
		node, _, _ := strings.Cut(id, "/")
		m.Node, _ = unescape(node)
	}
	return Holder{Node: m.Node, PID: m.PID, Command: m.Command}, millis(m.TTL), m.Shared
}

// decodeWaiter reads the record of the waiter id, see handover.lua.
func decodeWaiter(id, record string) (Waiter, bool) {
	f := strings.SplitN(record, "|", 6)
	if len(f) != 6 {
		return Waiter{}, false
	}
	h, _, shared := decodeMeta(id, f[5])
	return Waiter{Node: h.Node, PID: h.PID, Command: h.Command, Shared: shared}, true
}

// A message is what one process tells another through its channel.
type message struct {
	kind  string // grant, or lost
	id    string
	fence uint64
	since int64 // server ms
	claim time.Duration
	key   string // of the lock
}

func decodeMessage(payload string) (message, bool) {
	f := strings.SplitN(payload, " ", 6)
	if len(f) != 6 || f[0] != "grant" && f[0] != "lost" {
		return message{}, false
	}
	fence, ok := decodeFence(f[2])
	since, err1 := strconv.ParseInt(f[3], 10, 64)
	claim, err2 := strconv.ParseInt(f[4], 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return message{}, false
	}
	return message{kind: f[0], id: f[1], fence: fence, since: since, claim: millis(claim), key: f[5]}, true
}

// decodeOutcome reads what the scripts that release and renew answer: nil for
// done, else ErrExpired or ErrStolen.
func decodeOutcome(s *script, reply string) error {
	switch reply {
	case "1":
		return nil
	case "0":
		return ErrExpired
	case "-1":
		return ErrStolen
	}
	return errReply(s, reply)
}
