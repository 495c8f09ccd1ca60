package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The messages of the handshake. The package doc has their layout.

const (
	// Magic is the first byte of a watch stream.
	Magic = 0xE7
	// Version is the wire version of this package.
	Version = 2

	kindWatch = 1 // stay, and exchange beats
	kindProbe = 2 // only tell who is there

	headSize  = 5
	helloBody = 1 + 8 + 8 + nonceSize
	replyBody = 8 + nonceSize
	maxBody   = 512 // what a stranger can make this side read and hold
)

var (
	// ErrStranger means that the other side holds none of the keys in force, or
	// is no peer at all.
	ErrStranger = errors.New("the other side holds no key of this cluster: check the key and the label on both")
	// ErrInstance means that another instance than the wanted one answers.
	ErrInstance = errors.New("another instance answers there")
	// ErrVersion means that two peers have no wire version in common. The error
	// around it names both ranges.
	ErrVersion = errors.New("no wire version in common")
)

func versionError(ours, theirs [2]byte) error {
	return fmt.Errorf("%w: this peer speaks %d to %d, the other %d to %d: upgrade the older one",
		ErrVersion, ours[0], ours[1], theirs[0], theirs[1])
}

// common returns the highest version that lies in both ranges, 0 for none.
func common(a, b [2]byte) byte {
	if v := min(a[1], b[1]); v >= max(a[0], b[0]) {
		return v
	}
	return 0
}

// hello opens a stream.
type hello struct {
	versions   [2]byte // lowest and highest
	kind       byte
	from, want uint64
	nonce      nonce
}

// reply answers a hello.
type reply struct {
	version  byte // 0: none in common
	versions [2]byte
	id       uint64
	nonce    nonce
}

func (h hello) encode(k *secret) []byte {
	b := append(make([]byte, 0, headSize+helloBody+macSize), Magic, h.versions[0], h.versions[1], 0, helloBody, h.kind)
	b = binary.BigEndian.AppendUint64(b, h.from)
	b = binary.BigEndian.AppendUint64(b, h.want)
	b = append(b, h.nonce[:]...)
	return append(b, k.mac("hello", b)...)
}

// parseHello checks b against the secrets and returns the one that signed it.
func parseHello(b []byte, secrets []secret) (h hello, by *secret, err error) {
	body, mac, err := split(b, helloBody)
	if err != nil || b[0] != Magic {
		return hello{}, nil, ErrStranger
	}
	for i := range secrets {
		if secrets[i].signed(mac, "hello", b[:len(b)-macSize]) {
			h = hello{
				versions: [2]byte{b[1], b[2]},
				kind:     body[0],
				from:     binary.BigEndian.Uint64(body[1:]),
				want:     binary.BigEndian.Uint64(body[9:]),
				nonce:    nonce(body[17:]),
			}
			return h, &secrets[i], nil
		}
	}
	return hello{}, nil, ErrStranger
}

func (r reply) encode(k *secret, hello []byte) []byte {
	b := append(make([]byte, 0, headSize+replyBody+macSize), r.version, r.versions[0], r.versions[1], 0, replyBody)
	b = binary.BigEndian.AppendUint64(b, r.id)
	b = append(b, r.nonce[:]...)
	return append(b, k.mac("reply", hello, b)...)
}

// parseReply checks b as the answer to hello, which k signed.
func parseReply(b []byte, k *secret, hello []byte) (reply, error) {
	body, mac, err := split(b, replyBody)
	if err != nil || !k.signed(mac, "reply", hello, b[:len(b)-macSize]) {
		return reply{}, ErrStranger
	}
	return reply{
		version:  b[0],
		versions: [2]byte{b[1], b[2]},
		id:       binary.BigEndian.Uint64(body),
		nonce:    nonce(body[8:]),
	}, nil
}

// split cuts a whole hello or reply into its body, of at least least bytes, and
// its MAC.
func split(b []byte, least int) (body, mac []byte, err error) {
	if len(b) < headSize+least+macSize {
		return nil, nil, ErrStranger
	}
	n := int(binary.BigEndian.Uint16(b[3:]))
	if n < least || n > maxBody || len(b) != headSize+n+macSize {
		return nil, nil, ErrStranger
	}
	return b[headSize : headSize+n], b[headSize+n:], nil
}

// readMessage reads a whole hello or reply that begins with first, which may be
// empty.
func readMessage(r io.Reader, least int, first ...byte) ([]byte, error) {
	b := make([]byte, headSize, headSize+least+macSize)
	if _, err := io.ReadFull(r, b[copy(b, first):]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(b[3:]))
	if n < least || n > maxBody {
		return nil, ErrStranger
	}
	b = append(b, make([]byte, n+macSize)...)
	_, err := io.ReadFull(r, b[headSize:])
	return b, err
}
