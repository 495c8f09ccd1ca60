package datadir

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	version  = 2
	maxBytes = 16 << 20 // twice what MaxPeers of the longest names need
)

var errDamaged = errors.New("is damaged")

// file is the whole file. See the package comment.
type file struct {
	Version  int             `json:"version"`
	Checksum string          `json:"checksum"`
	Payload  json.RawMessage `json:"payload"`
}

// entry is a peer in the payload.
type entry struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
	Addr     string `json:"addr"`
	State    string `json:"state,omitempty"`
	Absent   int64  `json:"absent,omitempty"` // seconds
}

// encode writes c, one peer a line, sorted by name.
func encode(c Contents) ([]byte, error) {
	peers := Bound(c.Peers)
	slices.SortFunc(peers, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Instance, b.Instance))
	})

	var b bytes.Buffer
	b.WriteString("{")
	if c.Self != 0 {
		fmt.Fprintf(&b, "\n    \"self\": \"%016x\",", c.Self)
	}
	if c.Prev != 0 {
		fmt.Fprintf(&b, "\n    \"prev\": \"%016x\",", c.Prev)
	}
	b.WriteString("\n    \"peers\": [")
	for i, p := range peers {
		line, err := json.Marshal(entry{
			Name:     p.Name,
			Instance: fmt.Sprintf("%016x", p.Instance),
			Addr:     p.Addr.String(),
			State:    p.State,
			Absent:   int64(p.Absent / time.Second),
		})
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n      %s", line)
	}
	b.WriteString("\n    ]\n  }")

	sum, err := checksum(version, b.Bytes())
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "{\n  \"version\": %d,\n  \"checksum\": %q,\n  \"payload\": %s\n}\n", version, sum, b.Bytes()), nil
}

// decode reads what encode wrote, of this version or any other. skipped counts
// the peers that were left out because this version makes no sense of them.
func decode(data []byte) (c Contents, skipped int, err error) {
	if len(data) > maxBytes {
		return Contents{}, 0, fmt.Errorf("%w (%d bytes, %d is the most)", errDamaged, len(data), maxBytes)
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return Contents{}, 0, fmt.Errorf("%w (%v)", errDamaged, err)
	}
	if f.Version < 1 {
		return Contents{}, 0, fmt.Errorf("%w (no version)", errDamaged)
	}
	if sum, err := checksum(f.Version, f.Payload); err != nil || sum != f.Checksum {
		return Contents{}, 0, fmt.Errorf("%w (its checksum does not fit)", errDamaged)
	}
	// The bytes are what a peer wrote. What cannot be read of them is another
	// version's, and the rest is as good as ever.
	var payload struct {
		Self, Prev json.RawMessage
		Peers      []json.RawMessage
	}
	if err := json.Unmarshal(f.Payload, &payload); err != nil {
		return Contents{}, 0, fmt.Errorf("%w (%v)", errDamaged, err)
	}
	c.Self, c.Prev = instance(payload.Self), instance(payload.Prev)
	for _, raw := range payload.Peers {
		var e entry
		if json.Unmarshal(raw, &e) != nil {
			skipped++
			continue
		}
		p, ok := e.peer()
		if !ok || len(c.Peers) == MaxPeers {
			skipped++
			continue
		}
		c.Peers = append(c.Peers, p)
	}
	return c, skipped, nil
}

// peer returns e as a peer, and whether it is one.
func (e entry) peer() (Peer, bool) {
	inst, ok := parseInstance(e.Instance)
	addr, err := netip.ParseAddrPort(e.Addr)
	const most = int64(1<<63-1) / int64(time.Second)
	if !ok || err != nil || e.Absent > most {
		return Peer{}, false
	}
	p := Peer{Name: e.Name, Instance: inst, Addr: addr, State: e.State, Absent: time.Duration(e.Absent) * time.Second}
	return p, p.valid()
}

// instance reads an instance that may be missing, which is 0.
func instance(raw json.RawMessage) uint64 {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return 0
	}
	i, _ := parseInstance(s)
	return i
}

// parseInstance reads 16 hexadecimal digits that are not all 0.
func parseInstance(s string) (uint64, bool) {
	i, err := strconv.ParseUint(s, 16, 64)
	return i, err == nil && len(s) == 16 && i != 0
}

// checksum returns the sum of a payload and the version that it is read as,
// whatever the payload's white space.
func checksum(version int, payload []byte) (string, error) {
	buf := bytes.NewBuffer(fmt.Appendf(nil, "peer members %d\n", version))
	if err := json.Compact(buf, payload); err != nil {
		return "", err
	}
	return fmt.Sprintf("xxh64:%016x", xxhash.Sum64(buf.Bytes())), nil
}
