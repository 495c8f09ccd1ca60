package cluster

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Instance identifies one start of a peer: 42 bits of Unix milliseconds, then
// 22 random bits. Later starts compare greater, so that of two instances
// that claim one address everybody keeps the same one, whatever the order in
// which they hear of them. Zero is no instance.
type Instance uint64

const instanceRandomBits = 22

// newInstance makes the instance of a start at now. It is always later than
// last, the previous start kept in the data dir, also when the clock was set
// back between the two.
func newInstance(now time.Time, last Instance, random io.Reader) (Instance, error) {
	var b [4]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return 0, fmt.Errorf("draw an instance: %w", err)
	}
	r := uint64(binary.BigEndian.Uint32(b[:])) & (1<<instanceRandomBits - 1)
	i := Instance(uint64(now.UnixMilli())<<instanceRandomBits | r)
	if i <= last {
		i = last + 1<<instanceRandomBits
	}
	return i, nil
}

// String returns i as 16 hexadecimal digits.
func (i Instance) String() string { return fmt.Sprintf("%016x", uint64(i)) }

// ParseInstance is the inverse of String.
func ParseInstance(s string) (Instance, error) {
	if len(s) != 16 {
		return 0, fmt.Errorf("parse instance %q: want 16 hexadecimal digits", s)
	}
	u, err := strconv.ParseUint(s, 16, 64)
	if err != nil || u == 0 {
		return 0, fmt.Errorf("parse instance %q: want 16 hexadecimal digits", s)
	}
	return Instance(u), nil
}

// Started returns when i started, by its own host's clock.
func (i Instance) Started() time.Time { return time.UnixMilli(int64(i >> instanceRandomBits)) }
