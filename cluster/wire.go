package cluster

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/cluster/internal/text"
)

// What this package puts on the gossip wire, inside memberlist's own packets
// and under its encryption. The frames of membership are those of package core,
// those of keys of package keys.
//
//	node name   NAME#INSTANCE
//	node meta   the lowest and the highest wire version that the member speaks,
//	            a byte each
//	ack payload hash of the table (8 bytes, big endian), heartbeats
//	messages    one frame each, by its first byte
//	push/pull   frames, each behind its length (uvarint), the table first
//
//	'R' record    instance, number, JSON
//	'B' beats     instance, counter, age in tenths of a second; again and again
//
// Numbers are uvarints, instances 8 bytes, big endian. A frame of an unknown kind
// is left alone, and so are bytes behind what is known of one. Whatever a stranger
// sends is bounded and checked here, once.

const (
	// WireMin and WireMax are the wire versions that this release speaks. Members
	// work together whose ranges overlap.
	wireMin = 2
	wireMax = 2

	frameRecord = 'R'
	frameBeats  = 'B'

	maxRecord = 64 << 10 // bytes of JSON
	maxBeats  = 4096     // heartbeats in a push/pull
	maxCount  = 1 << 40
)

var errVersion = errors.New("it speaks no wire version that this peer speaks: upgrade the older of the two")

// record is what a member announces of itself besides its address. Its owner
// numbers it; the higher number wins.
type record struct {
	Tags     map[string]string `json:"tags,omitempty"`
	Services []Service         `json:"services,omitempty"`
}

// nodeName is a member's name in memberlist's table.
func nodeName(name string, i Instance) string { return name + "#" + i.String() }

func parseNodeName(s string) (string, Instance, error) {
	name, inst, ok := strings.Cut(s, "#")
	if !ok {
		return "", 0, fmt.Errorf("%w: node name %q has no instance", core.ErrWire, text.Safe(s))
	}
	if err := validateName(name); err != nil {
		return "", 0, fmt.Errorf("%w: node name %q", core.ErrWire, text.Safe(s))
	}
	i, err := ParseInstance(inst)
	if err != nil || i.String() != inst { // one spelling only: two would be two nodes to memberlist
		return "", 0, fmt.Errorf("%w: node name %q", core.ErrWire, text.Safe(s))
	}
	return name, i, nil
}

func appendMeta(b []byte) []byte { return append(b, wireMin, wireMax) }

// parseMeta returns the highest wire version that both speak.
func parseMeta(b []byte) (version byte, err error) {
	if len(b) < 2 || b[0] == 0 || b[0] > b[1] {
		return 0, fmt.Errorf("%w: meta", core.ErrWire)
	}
	if b[0] > wireMax || b[1] < wireMin {
		return 0, errVersion
	}
	return min(b[1], wireMax), nil
}

// ack is what comes along with the answer to a ping. at is when its beats were
// read, on the core's clock.
type ack struct {
	hash  uint64
	beats []core.Beat
	at    time.Duration
}

func (a *ack) append(b []byte, now time.Duration) []byte {
	return appendBeats(binary.BigEndian.AppendUint64(b, a.hash), a.beats, now-a.at)
}

func parseAck(b []byte) (a ack, err error) {
	if len(b) < 8 {
		return a, fmt.Errorf("%w: ack", core.ErrWire)
	}
	a.hash = binary.BigEndian.Uint64(b)
	a.beats, err = parseBeats(b[8:])
	return a, err
}

const beatUnit = 100 * time.Millisecond

// appendBeats appends beats that are older by wait than they say.
func appendBeats(b []byte, beats []core.Beat, wait time.Duration) []byte {
	for i, x := range beats {
		b = binary.BigEndian.AppendUint64(b, uint64(x.Peer))
		b = binary.AppendUvarint(b, x.Count)
		age := x.Age + wait
		if i == 0 && x.Age == 0 {
			age = 0 // its own: it beats now
		}
		b = binary.AppendUvarint(b, uint64(max(age, 0)/beatUnit))
	}
	return b
}

func parseBeats(b []byte) ([]core.Beat, error) {
	var out []core.Beat
	for len(b) > 0 {
		if len(b) < 10 || len(out) == maxBeats {
			return nil, fmt.Errorf("%w: heartbeats", core.ErrWire)
		}
		x := core.Beat{Peer: core.ID(binary.BigEndian.Uint64(b))}
		b = b[8:]
		var n int
		if x.Count, n = binary.Uvarint(b); n <= 0 || x.Count > maxCount {
			return nil, fmt.Errorf("%w: heartbeats", core.ErrWire)
		}
		b = b[n:]
		age, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("%w: heartbeats", core.ErrWire)
		}
		b = b[n:]
		x.Age = time.Duration(min(age, 1<<32)) * beatUnit
		out = append(out, x)
	}
	return out, nil
}

func recordFrame(i core.ID, number uint64, body []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{frameRecord}, uint64(i))
	b = binary.AppendUvarint(b, number)
	return append(b, body...)
}

func parseRecord(b []byte) (core.Record, error) {
	bad := fmt.Errorf("%w: record", core.ErrWire)
	if len(b) < 9 {
		return core.Record{}, bad
	}
	number, n := binary.Uvarint(b[8:])
	if n <= 0 || number > maxCount || len(b)-8-n > maxRecord {
		return core.Record{}, bad
	}
	in := core.Record{Peer: core.ID(binary.BigEndian.Uint64(b)), Number: number, Body: b[8+n:]}
	r, err := decodeRecord(in.Body)
	in.Data = r
	return in, err
}

// encodeRecord is for this peer's own record; its error names what is too large.
func encodeRecord(r record) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("tags and services take %d bytes, at most %d fit: announce fewer or shorter ones", len(b), maxRecord)
	}
	return b, nil
}

// decodeRecord takes a stranger's record apart. Its error stays short, however
// many mistakes there are. A service that a later version announces with a health
// unknown here counts as unchecked; the rest of the record is as good as ever.
func decodeRecord(b []byte) (record, error) {
	var r record
	if len(b) > maxRecord {
		return record{}, fmt.Errorf("%w: record of %d bytes", core.ErrWire, len(b))
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("%w: record: %s", core.ErrWire, text.Safe(err.Error()))
	}
	if len(r.Tags) > maxTags || len(r.Services) > maxServices {
		return record{}, fmt.Errorf("%w: record of %d tags and %d services", core.ErrWire, len(r.Tags), len(r.Services))
	}
	for i := range r.Services {
		if s := &r.Services[i]; !knownHealth(s.Health) {
			s.Health = ""
		}
	}
	if err := errors.Join(validateTags(r.Tags), validateServices(r.Services)); err != nil {
		return record{}, fmt.Errorf("%w: record: %s", core.ErrWire, text.Safe(err.Error()))
	}
	return r, nil
}

// appendFrame adds a frame to a push/pull state.
func appendFrame(b, frame []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(frame)))
	return append(b, frame...)
}

// cutFrame takes the first frame off a push/pull state.
func cutFrame(b []byte) (frame, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) || size == 0 {
		return nil, nil, fmt.Errorf("%w: frame", core.ErrWire)
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}
