package lockclient

import (
	"strconv"
	"time"
)

// A request is one try to get a lock, from the first question to its end.
type request struct {
	began   time.Time
	name    string
	keys    keys
	id      string
	ttl     time.Duration
	claim   time.Duration // 0 for a try
	limit   string        // limitAlone, or with how many it is shared
	command *string
	pid     int // 0 for that of Config
	onWait  func(Waiting)
	ear     *ear // nil for a try that has not got it yet

	// What the scripts are sent. Only one question is under way at a time; one
	// that was left open keeps these to itself.
	args                     []any
	ttlMS, meta, rest, place string
	asks                     int

	wake chan struct{} // capacity 1

	// Guarded by Client.mu.
	grant    *message // pushed, newer than asked
	again    bool     // ask again: the answer may have been missed
	asking   bool     // until the next answer no beat speaks for it
	err      error    // waiting is of no use
	asked    moment   // when the last question was sent that found it queued
	fence    uint64   // the last one granted then
	position int
	expires  moment // the first hold then; zero if not known
	holder   string
}

// tryAlone is the rest of the arguments of a first try to get a lock alone.
const tryAlone = limitAlone + " 0 0 0 p -"

// limitAlone is the limit of one that wants the lock alone.
const limitAlone = "x"

// maxClaim bounds what a waiter that is cut off can cost those behind it.
const maxClaim = time.Minute

func (c *Client) request(name string, wait bool, opts []Option) (*request, error) {
	r := &request{began: time.Now(), name: name, ttl: c.cfg.TTL, limit: limitAlone}
	for _, o := range opts {
		o(r)
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := checkTTL(r.ttl); err != nil {
		return nil, err
	}
	r.keys = lockKeys(c.cfg.Prefix, name)
	r.args = arguments(&r.keys, 4)
	id := append(make([]byte, 0, 96), c.id...)
	r.id = string(strconv.AppendUint(append(id, '/'), c.seq.Add(1), 10))
	r.meta, r.ttlMS = c.meta, c.ttlMS
	if r.ttl != c.cfg.TTL || r.command != nil || r.pid != 0 || r.limit != limitAlone {
		cfg := c.cfg
		if r.pid != 0 {
			cfg.PID = r.pid
		}
		if r.command != nil {
			cfg.Command = *r.command
		}
		r.meta = cfg.meta(r.ttl, r.limit != limitAlone)
		r.ttlMS = strconv.FormatInt(r.ttl.Milliseconds(), 10)
	}
	r.place = "0"
	if wait {
		r.claim = min(r.ttl, max(time.Second, r.ttl/3), maxClaim)
		r.wake = make(chan struct{}, 1)
	}
	return r, nil
}

// question returns the arguments of acquire.lua.
func (r *request) question() []any {
	if r.ear == nil && r.limit == limitAlone && r.asks == 0 {
		r.rest = tryAlone
	} else {
		b := append(make([]byte, 0, 128), r.limit...)
		b = strconv.AppendInt(append(b, ' '), r.claim.Milliseconds(), 10)
		b = strconv.AppendInt(append(b, ' '), int64(min(r.asks, 1)), 10)
		b = append(append(b, ' '), r.place...)
		if r.ear == nil {
			b = append(b, " p -"...)
		} else {
			b = append(append(b, ' '), r.ear.letter()...)
			b = append(append(b, ' '), r.ear.channel...)
		}
		r.rest = string(b)
	}
	r.asks++
	return append(r.args[:argOwn], &r.id, &r.ttlMS, &r.meta, &r.rest)
}

// farewell returns the arguments of leave.lua, which shared hold, if any, has
// value.
func (r *request) farewell(value string) []any {
	a := arguments(&r.keys, 2)
	a[argOwn], a[argOwn+1] = &r.id, value
	return a
}

// signal wakes the goroutine that waits for r.
func (r *request) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
