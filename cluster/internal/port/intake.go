package port

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// memberlist believes what a stream says of its own length: 40 bytes that claim
// a million nodes make it allocate 100 MB before the first node has come. So
// each of its messages is read here first, whole and checked, and memory is
// taken only for bytes that are there. memberlist then gets a message that it
// can not be surprised by.
//
// Plain messages are walked through as MessagePack. Of encrypted ones only
// the length can be checked; whoever can encrypt is trusted with the rest.

// memberlist's message types, as they begin a message.
const (
	msgPing      = 0
	msgAck       = 2
	msgPushPull  = 6
	msgCompound  = 7
	msgUser      = 8
	msgCompress  = 9
	msgEncrypted = 10
	msgCRC       = 12
	msgError     = 13
	msgLabel     = 244
)

const (
	maxMessage   = 4 << 20 // bytes of any message
	minNode      = 64      // bytes of a node in a push/pull, its field names alone take 42
	maxUserState = 1 << 20 // bytes of the program's own in a push/pull
	maxSmall     = 4 << 10 // bytes of a ping, its answer, an error
)

var errIntake = errors.New("malformed message")

// limits are the bounds that the program sets; see Config.
type limits struct{ nodes, frame uint64 }

// intake reads one message. It is used by one goroutine.
type intake struct {
	r      io.Reader
	limits limits
	hold   func(total int) error // asked before the message may take total bytes
	kept   []*chunk              // what was read
	size   int                   // of that
	pos    int                   // what was looked at
}

// chunk is a piece of a message. They are used again, so that a flood does not
// fill the heap faster than it is swept.
type chunk [8 << 10]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

const chunkSize = len(chunk{})

// more makes at least n bytes after pos available. It takes memory for what
// has come, not for what is claimed.
func (in *intake) more(n int) error {
	want := in.pos + n
	if want > maxMessage+maxSmall {
		return fmt.Errorf("%w: %d bytes, more than any peer sends", errIntake, want)
	}
	for in.size < want {
		if in.size == len(in.kept)*chunkSize {
			if err := in.hold((len(in.kept) + 1) * chunkSize); err != nil {
				return err
			}
			in.kept = append(in.kept, chunks.Get().(*chunk))
		}
		got, err := in.r.Read(in.kept[len(in.kept)-1][in.size%chunkSize:])
		in.size += got
		if in.size >= want {
			return nil
		}
		if err == io.EOF && in.size > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// drop gives the memory back. Nothing may be read or copied after it.
func (in *intake) drop() {
	for _, c := range in.kept {
		chunks.Put(c)
	}
	in.kept, in.size, in.pos = nil, 0, 0
}

// copyAt copies what was looked at from offset at on, as much as b takes.
func (in *intake) copyAt(b []byte, at int) (n int) {
	for n < len(b) && at < in.pos {
		from := in.kept[at/chunkSize][at%chunkSize:]
		got := copy(b[n:], from[:min(len(from), in.pos-at)])
		n, at = n+got, at+got
	}
	return n
}

// last returns the last n bytes that were looked at.
func (in *intake) last(n int) []byte {
	b := make([]byte, n)
	in.copyAt(b, in.pos-n)
	return b
}

// skip looks at the next n bytes.
func (in *intake) skip(n int) error {
	if err := in.more(n); err != nil {
		return err
	}
	in.pos += n
	return nil
}

// take returns the next n bytes, of which there are few.
func (in *intake) take(n int) ([]byte, error) {
	if err := in.skip(n); err != nil {
		return nil, err
	}
	return in.last(n), nil
}

func (in *intake) one() (byte, error) {
	if err := in.skip(1); err != nil {
		return 0, err
	}
	return in.kept[(in.pos-1)/chunkSize][(in.pos-1)%chunkSize], nil
}

// label reads the label before a message, "" when there is none.
func (in *intake) label() (string, error) {
	kind, err := in.one()
	if err != nil {
		return "", err
	}
	if kind != msgLabel {
		in.pos--
		return "", nil
	}
	size, err := in.one()
	if err == nil && size == 0 {
		err = fmt.Errorf("%w: empty label", errIntake)
	}
	if err != nil {
		return "", err
	}
	label, err := in.take(int(size))
	return string(label), err
}

// peek returns the next byte without looking past it.
func (in *intake) peek() (byte, error) {
	b, err := in.one()
	if err == nil {
		in.pos--
	}
	return b, err
}

// message reads one message, after its label, and returns its type.
func (in *intake) message() (byte, error) {
	kind, err := in.one()
	if err != nil {
		return 0, err
	}
	start := in.pos
	switch kind {
	case msgEncrypted:
		size, err := in.take(4)
		if err != nil {
			return kind, err
		}
		n := binary.BigEndian.Uint32(size)
		if n > maxMessage {
			return kind, fmt.Errorf("%w: it claims %d bytes, more than any peer sends", errIntake, n)
		}
		return kind, in.skip(int(n))
	case msgPushPull:
		return kind, in.pushPull()
	case msgUser:
		h, err := in.header("UserMsgLen")
		if err != nil {
			return kind, err
		}
		n := h["UserMsgLen"]
		if n > in.limits.frame {
			return kind, fmt.Errorf("%w: it claims a message of %d bytes, more than any peer sends", errIntake, n)
		}
		return kind, in.skip(int(n))
	case msgPing, msgAck, msgError:
		if err := in.fields(func(string, packed) {}); err != nil {
			return kind, err
		}
		if in.pos-start > maxSmall {
			return kind, fmt.Errorf("%w: %d bytes of type %d", errIntake, in.pos-start, kind)
		}
		return kind, nil
	default:
		return kind, fmt.Errorf("%w: type %d", errIntake, kind)
	}
}

// pushPull reads the whole state of a peer: a header, so many nodes, and ours.
func (in *intake) pushPull() error {
	h, err := in.header("Nodes", "UserStateLen", "Join")
	if err != nil {
		return err
	}
	if h["Nodes"] > in.limits.nodes || h["UserStateLen"] > maxUserState {
		return fmt.Errorf("%w: it claims %d nodes and %d bytes, more than any cluster has", errIntake, h["Nodes"], h["UserStateLen"])
	}
	for range h["Nodes"] {
		start := in.pos
		if err := in.fields(func(string, packed) {}); err != nil {
			return err
		}
		if in.pos-start < minNode {
			return fmt.Errorf("%w: a node of %d bytes", errIntake, in.pos-start)
		}
	}
	return in.skip(int(h["UserStateLen"]))
}

// userState returns what the program at the other end added to the table in a
// push/pull, or nil for any other message.
func userState(b []byte) []byte {
	in := &intake{r: bytes.NewReader(b), hold: func(int) error { return nil }}
	defer in.drop()
	if _, err := in.label(); err != nil {
		return nil
	}
	if kind, err := in.one(); err != nil || kind != msgPushPull {
		return nil
	}
	h, err := in.header("Nodes", "UserStateLen", "Join")
	n := h["UserStateLen"]
	if err != nil || n == 0 || n > uint64(len(b)) {
		return nil
	}
	return b[len(b)-int(n):]
}

// header reads a map that has the fields named, no other, none twice, and
// small numbers or booleans in them.
func (in *intake) header(names ...string) (map[string]uint64, error) {
	h := make(map[string]uint64, len(names))
	var bad error
	err := in.fields(func(name string, v packed) {
		known := false
		for _, n := range names {
			known = known || n == name
		}
		if _, twice := h[name]; !known || twice || v.kind != packedNumber || v.number > 1<<32 {
			bad = fmt.Errorf("%w: header", errIntake)
			return
		}
		h[name] = v.number
	})
	return h, errors.Join(err, bad)
}
