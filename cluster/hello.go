package cluster

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"github.com/peerhq/peer/cluster/internal/keys"
	"github.com/peerhq/peer/cluster/internal/port"
)

// The handshake of a watch stream, 52 bytes one way and 24 back. Both sides
// name their instance under a MAC of the gossip key and the cluster's label, so
// that a stranger learns nothing and a peer of another cluster is not taken for
// one of this; the nonce ties the answer to the question. Without a key
// the MAC keeps strangers out only by accident.

const (
	helloVersion = 1
	helloSize    = 1 + 1 + 1 + 8 + 8 + 16 + keys.MACSize
	replySize    = 8 + keys.MACSize

	helloTimeout = 1500 * time.Millisecond

	kindWatch = 1 // stay, and exchange beats
	kindProbe = 2 // only tell who is there
)

var errStranger = errors.New("handshake of a stranger")

// hello opens a watch stream.
type hello struct {
	kind       byte
	from, want Instance
}

func (c *Cluster) encodeHello(h hello) []byte {
	b := []byte{port.WatchMagic, helloVersion, h.kind}
	b = binary.BigEndian.AppendUint64(b, uint64(h.from))
	b = binary.BigEndian.AppendUint64(b, uint64(h.want))
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	b = append(b, nonce[:]...)
	return append(b, c.keys.Sign("hello", b)...)
}

// decodeHello checks b, which begins with the magic. It returns the key that
// signed it.
func (c *Cluster) decodeHello(b []byte) (h hello, by keys.Signer, err error) {
	if len(b) != helloSize || b[0] != port.WatchMagic || b[1] != helloVersion {
		return h, by, errStranger
	}
	body, mac := b[:helloSize-keys.MACSize], b[helloSize-keys.MACSize:]
	by, ok := c.keys.Verify(mac, "hello", body)
	if !ok {
		return h, by, errStranger
	}
	return hello{
		kind: b[2],
		from: Instance(binary.BigEndian.Uint64(b[3:])),
		want: Instance(binary.BigEndian.Uint64(b[11:])),
	}, by, nil
}

// greet sends a hello over conn and returns who answered before end.
func (c *Cluster) greet(conn net.Conn, kind byte, want Instance, end time.Time) (Instance, error) {
	_ = conn.SetDeadline(end)
	defer func() { _ = conn.SetDeadline(time.Time{}) }()
	b := c.encodeHello(hello{kind: kind, from: c.self.m.Instance, want: want})
	if _, err := conn.Write(b); err != nil {
		return 0, err
	}
	var reply [replySize]byte
	if _, err := io.ReadFull(conn, reply[:]); err != nil {
		return 0, err
	}
	if _, ok := c.keys.Verify(reply[8:], "reply", b, reply[:8]); !ok {
		return 0, errStranger
	}
	return Instance(binary.BigEndian.Uint64(reply[:8])), nil
}

// answer reads the rest of a hello, whose first byte the port has read,
// and replies. A stranger gets nothing.
func (c *Cluster) answer(conn net.Conn) (hello, error) {
	_ = conn.SetDeadline(time.Now().Add(helloTimeout))
	defer func() { _ = conn.SetDeadline(time.Time{}) }()
	b := make([]byte, helloSize)
	b[0] = port.WatchMagic
	if _, err := io.ReadFull(conn, b[1:]); err != nil {
		return hello{}, err
	}
	h, by, err := c.decodeHello(b)
	if err != nil {
		return hello{}, err
	}
	reply := binary.BigEndian.AppendUint64(nil, uint64(c.self.m.Instance))
	reply = append(reply, by.Sign("reply", b, reply)...)
	_, err = conn.Write(reply)
	return h, err
}
