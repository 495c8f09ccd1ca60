package core

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// The frames of this package. Each begins with its kind; numbers are uvarints,
// instances 8 bytes, big endian. A later version may append bytes to a record and
// to a frame: they are kept and passed on with a record, and ignored elsewhere.
//
//	'V' vote   about, from, epoch, seq, evidence (1), flags (1; bit 0: answer me)
//	'N' news   from, records
//	'T' table  from, records
//	'A' number owner, number
//	'W' want   from, owner
//
// A record stands behind its length: id, prev, epoch, state (1), cause (1),
// level (1), wire versions (2), number, age in seconds, then address, name and
// version, each behind its length (1).
//
// A record whose form is broken spoils its frame: nobody knows what the sender
// meant. One that is well formed and cannot be used is left out alone, so that one
// bad record does not keep two tables apart. Whether a name is one that may be
// shown is for the caller to check.

// Kinds of frames.
const (
	FrameVote   = 'V'
	FrameNews   = 'N'
	FrameTable  = 'T'
	FrameNumber = 'A'
	FrameWant   = 'W'
)

// Bounds of what is read.
const (
	MaxName    = 128
	MaxVersion = 64
	maxExt     = 512
	maxNews    = 256
	maxEpoch   = 1 << 40
	maxAge     = 10 * 365 * 24 * time.Hour
)

// ErrWire is returned for what does not follow the format.
var ErrWire = errors.New("malformed gossip")

// AppendRec appends rec to b.
func AppendRec(b []byte, rec *Rec) []byte {
	var scratch [512]byte
	p := binary.BigEndian.AppendUint64(scratch[:0], uint64(rec.ID))
	p = binary.BigEndian.AppendUint64(p, uint64(rec.Prev))
	p = binary.AppendUvarint(p, rec.Epoch)
	p = append(p, byte(rec.State), byte(rec.Cause), rec.Level, rec.WireMin, rec.WireMax)
	p = binary.AppendUvarint(p, rec.Number)
	p = binary.AppendUvarint(p, uint64(max(rec.Age, 0)/time.Second))
	addr, _ := rec.Addr.MarshalBinary() // never fails
	p = appendShort(p, addr)
	p = appendShort(p, rec.Name)
	p = appendShort(p, rec.Version)
	p = append(p, rec.Ext...)
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

func appendShort[T []byte | string](b []byte, s T) []byte {
	n := min(len(s), 255)
	return append(append(b, byte(n)), s[:n]...)
}

// reader takes a frame apart; err sticks.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err, r.b = ErrWire, nil
	}
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) id() ID {
	if b := r.take(8); b != nil {
		return ID(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *reader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > most {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) short(most int) []byte {
	n := int(r.byte())
	if n > most {
		r.fail()
	}
	return r.take(n)
}

// rec reads a record. ok is false for one that is well formed and cannot be used:
// its state is of a later version, or its address is nobody's.
func (r *reader) rec() (rec Rec, ok bool) {
	in := reader{b: r.take(int(r.uvarint(1 << 12)))}
	if r.err != nil {
		return rec, false
	}
	rec.ID, rec.Prev = in.id(), in.id()
	rec.Epoch = in.uvarint(math.MaxUint64)
	rec.State, rec.Cause, rec.Level = State(in.byte()), Cause(in.byte()), in.byte()
	rec.WireMin, rec.WireMax = in.byte(), in.byte()
	rec.Number = in.uvarint(math.MaxUint64)
	rec.Age = time.Duration(min(in.uvarint(math.MaxUint64), uint64(maxAge/time.Second))) * time.Second
	addr := in.short(32)
	rec.Name, rec.Version = string(in.short(MaxName)), string(in.short(MaxVersion))
	if in.err != nil {
		r.fail()
		return rec, false
	}
	if len(in.b) > 0 && len(in.b) <= maxExt {
		rec.Ext = append([]byte(nil), in.b...)
	}
	return rec, rec.Addr.UnmarshalBinary(addr) == nil && usable(rec.Addr) && rec.ID != 0 && rec.Name != "" &&
		0 < rec.Epoch && rec.Epoch <= maxEpoch && 0 < rec.State && rec.State <= Replaced && rec.Number <= maxNumber
}

func usable(a netip.AddrPort) bool {
	ip := a.Addr()
	return ip.IsValid() && ip == ip.Unmap() && !ip.IsUnspecified() && !ip.IsMulticast() &&
		ip != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && ip.Zone() == "" && a.Port() != 0
}

// AppendRecs appends a frame of kind FrameNews or FrameTable.
func AppendRecs(b []byte, kind byte, from ID, recs []Rec) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kind), uint64(from))
	for i := range recs {
		b = AppendRec(b, &recs[i])
	}
	return b
}

// ParseNews reads what follows the kind of a FrameNews.
func ParseNews(b []byte) (News, error) {
	from, recs, err := parseRecs(b, maxNews)
	return News{From: from, Recs: recs}, err
}

// ParseTable reads what follows the kind of a FrameTable.
func ParseTable(b []byte) (Table, error) {
	from, recs, err := parseRecs(b, maxLive+maxGone)
	return Table{From: from, Recs: recs}, err
}

func parseRecs(b []byte, most int) (ID, []Rec, error) {
	r := reader{b: b}
	from := r.id()
	var out []Rec
	for r.err == nil && len(r.b) > 0 {
		rec, ok := r.rec()
		if r.err != nil {
			break
		}
		if len(out) == most {
			return 0, nil, fmt.Errorf("%w: more than %d records", ErrWire, most)
		}
		if ok {
			out = append(out, rec)
		}
	}
	if r.err != nil {
		return 0, nil, fmt.Errorf("%w: records", ErrWire)
	}
	return from, out, nil
}

// Append appends v as a frame.
func (v Vote) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, FrameVote), uint64(v.About))
	b = binary.BigEndian.AppendUint64(b, uint64(v.From))
	b = binary.AppendUvarint(b, v.Epoch)
	b = binary.AppendUvarint(b, v.Seq)
	flags := byte(0)
	if v.Ask {
		flags = 1
	}
	return append(b, byte(v.Says), flags)
}

// ParseVote reads what follows the kind of a FrameVote. Evidence that a later
// version added counts as nothing said.
func ParseVote(b []byte) (Vote, error) {
	r := reader{b: b}
	v := Vote{About: r.id(), From: r.id(), Epoch: r.uvarint(maxEpoch), Seq: r.uvarint(1 << 62)}
	v.Says = Evidence(r.byte())
	v.Ask = r.byte()&1 == 1
	if r.err != nil {
		return Vote{}, fmt.Errorf("%w: vote", ErrWire)
	}
	if v.Says > Refuses {
		v.Says = Nothing
	}
	return v, nil
}

// Append appends n as a frame.
func (n Number) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, FrameNumber), uint64(n.Peer))
	return binary.AppendUvarint(b, n.Number)
}

// ParseNumber reads what follows the kind of a FrameNumber.
func ParseNumber(b []byte) (Number, error) {
	r := reader{b: b}
	n := Number{Peer: r.id(), Number: r.uvarint(maxNumber)}
	if r.err != nil {
		return Number{}, fmt.Errorf("%w: number", ErrWire)
	}
	return n, nil
}

// Append appends w as a frame.
func (w Want) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, FrameWant), uint64(w.From))
	return binary.BigEndian.AppendUint64(b, uint64(w.Owner))
}

// ParseWant reads what follows the kind of a FrameWant.
func ParseWant(b []byte) (Want, error) {
	r := reader{b: b}
	w := Want{From: r.id(), Owner: r.id()}
	if r.err != nil {
		return Want{}, fmt.Errorf("%w: want", ErrWire)
	}
	return w, nil
}

// String names s as users see it.
func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Suspect:
		return "suspect"
	case Failed:
		return "failed"
	case Left:
		return "left"
	case Forgotten:
		return "forgotten"
	case Replaced:
		return "replaced"
	}
	return "unknown"
}

// String names c as users see it.
func (c Cause) String() string {
	switch c {
	case NoCause:
		return ""
	case Overdue:
		return "overdue"
	case Unreachable:
		return "unreachable"
	case Crashed:
		return "crashed"
	case Stalled:
		return "stalled"
	case Lossy:
		return "lossy"
	case Mute:
		return "mute"
	case Deaf:
		return "deaf"
	}
	return "unknown"
}

// String tells e in words.
func (e Evidence) String() string {
	switch e {
	case Hears:
		return "hears it"
	case Silent:
		return "does not hear it"
	case NoRoute:
		return "cannot dial its address"
	case Refuses:
		return "its address refuses"
	}
	return "says nothing"
}
