package cluster

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/peerhq/peer/cluster/internal/text"
)

// What this package puts on the gossip wire, inside memberlist's own packets
// and under its encryption:
//
//	node name   NAME#INSTANCE
//	node meta   wireVersion, record number (uvarint), version of the binary
//	ack payload wireVersion, roster (8 bytes big endian), heartbeats
//	messages    one frame each, by its first byte
//	push/pull   wireVersion, frames, each behind its length (uvarint)
//
// Frames: farewell {instance, counter}, record {instance, number, JSON},
// number {instance, number of its record}, wanted {asker's instance, instance
// …}, beats. Numbers are uvarints, instances 8 bytes big endian. Whatever a stranger sends is bounded and checked here, once.

const (
	wireVersion = 1

	frameFarewell = 'F'
	frameRecord   = 'R'
	frameNumber   = 'A'
	frameWanted   = 'W'
	frameBeats    = 'B'

	maxRecord  = 64 << 10 // bytes of JSON
	maxVersion = 64       // bytes of a binary's version
	maxWanted  = 256      // records asked for at once
	maxBeats   = 4096     // heartbeats in a push/pull
	maxCount   = 1 << 40  // of a goodbye or a record; a heartbeat may leap beyond, see staying
)

var errWire = errors.New("malformed gossip")

// beat is one heartbeat: the counter of an instance, and how long ago it was sent.
type beat struct {
	instance Instance
	count    uint64
	age      time.Duration
}

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
		return "", 0, fmt.Errorf("%w: node name %q has no instance", errWire, printable(s))
	}
	if err := validateName(name); err != nil {
		return "", 0, fmt.Errorf("%w: node name %q", errWire, printable(s))
	}
	i, err := ParseInstance(inst)
	if err != nil || i.String() != inst { // one spelling only: two would be two nodes to memberlist
		return "", 0, fmt.Errorf("%w: node name %q", errWire, printable(s))
	}
	return name, i, nil
}

// printable makes a stranger's text safe to log: no control characters, none
// that hide text or turn its direction, and not too long.
func printable(s string) string { return text.Safe(s) }

func appendMeta(b []byte, number uint64, version string) []byte {
	if len(version) > maxVersion {
		version = version[:maxVersion]
	}
	b = append(b, wireVersion)
	b = binary.AppendUvarint(b, number)
	return append(b, version...)
}

func parseMeta(b []byte) (number uint64, version string, err error) {
	if len(b) == 0 || b[0] != wireVersion {
		return 0, "", fmt.Errorf("%w: meta of another wire version", errWire)
	}
	number, n := binary.Uvarint(b[1:])
	if n <= 0 || len(b)-1-n > maxVersion {
		return 0, "", fmt.Errorf("%w: meta", errWire)
	}
	return number, printable(string(b[1+n:])), nil
}

// ack is what comes along with the answer to a ping.
type ack struct {
	roster uint64
	beats  []beat
}

func (a ack) append(b []byte) []byte {
	return appendBeats(binary.BigEndian.AppendUint64(append(b, wireVersion), a.roster), a.beats)
}

func parseAck(b []byte) (a ack, err error) {
	if len(b) < 9 || b[0] != wireVersion {
		return a, fmt.Errorf("%w: ack", errWire)
	}
	a.roster = binary.BigEndian.Uint64(b[1:])
	a.beats, err = parseBeats(b[9:])
	return a, err
}

func appendBeats(b []byte, beats []beat) []byte {
	for _, x := range beats {
		b = binary.BigEndian.AppendUint64(b, uint64(x.instance))
		b = binary.AppendUvarint(b, x.count)
		b = binary.AppendUvarint(b, uint64(max(x.age, 0)/(100*time.Millisecond)))
	}
	return b
}

func parseBeats(b []byte) ([]beat, error) {
	var out []beat
	for len(b) > 0 {
		if len(b) < 10 || len(out) == maxBeats {
			return nil, fmt.Errorf("%w: heartbeats", errWire)
		}
		x := beat{instance: Instance(binary.BigEndian.Uint64(b))}
		b = b[8:]
		var n int
		if x.count, n = binary.Uvarint(b); n <= 0 || x.count > 2*maxCount {
			return nil, fmt.Errorf("%w: heartbeats", errWire)
		}
		b = b[n:]
		age, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("%w: heartbeats", errWire)
		}
		b = b[n:]
		x.age = time.Duration(min(age, 1<<32)) * 100 * time.Millisecond
		out = append(out, x)
	}
	return out, nil
}

func farewellFrame(i Instance, count uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{frameFarewell}, uint64(i))
	return binary.AppendUvarint(b, count)
}

func parseFarewell(b []byte) (Instance, uint64, error) {
	if len(b) < 9 {
		return 0, 0, fmt.Errorf("%w: farewell", errWire)
	}
	count, n := binary.Uvarint(b[8:])
	if n != len(b)-8 || count > maxCount {
		return 0, 0, fmt.Errorf("%w: farewell", errWire)
	}
	return Instance(binary.BigEndian.Uint64(b)), count, nil
}

func recordFrame(i Instance, number uint64, body []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{frameRecord}, uint64(i))
	b = binary.AppendUvarint(b, number)
	return append(b, body...)
}

func parseRecord(b []byte) (i Instance, number uint64, body []byte, err error) {
	if len(b) < 9 {
		return 0, 0, nil, fmt.Errorf("%w: record", errWire)
	}
	number, n := binary.Uvarint(b[8:])
	if n <= 0 || number > maxCount || len(b)-8-n > maxRecord {
		return 0, 0, nil, fmt.Errorf("%w: record", errWire)
	}
	return Instance(binary.BigEndian.Uint64(b)), number, b[8+n:], nil
}

func numberFrame(i Instance, number uint64) []byte {
	return binary.AppendUvarint(binary.BigEndian.AppendUint64([]byte{frameNumber}, uint64(i)), number)
}

func parseNumber(b []byte) (Instance, uint64, error) {
	i, number, err := parseFarewell(b) // of the same form
	if err != nil {
		return 0, 0, fmt.Errorf("%w: record number", errWire)
	}
	return i, number, nil
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
// many mistakes there are.
func decodeRecord(b []byte) (record, error) {
	var r record
	if len(b) > maxRecord {
		return record{}, fmt.Errorf("%w: record of %d bytes", errWire, len(b))
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("%w: record: %s", errWire, printable(err.Error()))
	}
	if len(r.Tags) > maxTags || len(r.Services) > maxServices {
		return record{}, fmt.Errorf("%w: record of %d tags and %d services", errWire, len(r.Tags), len(r.Services))
	}
	if err := errors.Join(validateTags(r.Tags), validateServices(r.Services)); err != nil {
		return record{}, fmt.Errorf("%w: record: %s", errWire, printable(err.Error()))
	}
	return r, nil
}

func wantedFrame(is []Instance) []byte {
	b := []byte{frameWanted}
	for _, i := range is {
		b = binary.BigEndian.AppendUint64(b, uint64(i))
	}
	return b
}

func parseWanted(b []byte) ([]Instance, error) {
	if len(b)%8 != 0 || len(b) > 8*maxWanted {
		return nil, fmt.Errorf("%w: wanted", errWire)
	}
	var out []Instance
	for ; len(b) > 0; b = b[8:] {
		out = append(out, Instance(binary.BigEndian.Uint64(b)))
	}
	return out, nil
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
		return nil, nil, fmt.Errorf("%w: frame", errWire)
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}
