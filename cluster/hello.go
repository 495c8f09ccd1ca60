package cluster

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The handshake of a watch stream, 52 bytes one way and 24 back. Both sides
// name their instance under a MAC of the gossip key and the cluster's label, so
// that a stranger learns nothing and a peer of another cluster is not taken for
// one of this; the nonce ties the answer to the question. Without a key
// the MAC keeps strangers out only by accident.

const (
	helloVersion = 1
	helloSize    = 1 + 1 + 1 + 8 + 8 + 16 + macSize
	replySize    = 8 + macSize
	macSize      = 16

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

func (c *Cluster) mac(key []byte, what string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, append([]byte("peer watch "), key...))
	fmt.Fprintf(h, "%s\x00%d\x00%s\x00", what, len(c.cfg.Label), c.cfg.Label)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)[:macSize]
}

// macKeys returns the keys to try, the one to sign with first.
func (c *Cluster) macKeys() [][]byte { return c.keys.load().macs() }

func (c *Cluster) encodeHello(h hello) []byte {
	b := []byte{watchMagic, helloVersion, h.kind}
	b = binary.BigEndian.AppendUint64(b, uint64(h.from))
	b = binary.BigEndian.AppendUint64(b, uint64(h.want))
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	b = append(b, nonce[:]...)
	return append(b, c.mac(c.macKeys()[0], "hello", b)...)
}

// decodeHello checks b, which begins with the magic. It returns the key that
// signed it.
func (c *Cluster) decodeHello(b []byte) (h hello, key []byte, err error) {
	if len(b) != helloSize || b[0] != watchMagic || b[1] != helloVersion {
		return h, nil, errStranger
	}
	body, mac := b[:helloSize-macSize], b[helloSize-macSize:]
	for _, key := range c.macKeys() {
		if hmac.Equal(mac, c.mac(key, "hello", body)) {
			return hello{
				kind: b[2],
				from: Instance(binary.BigEndian.Uint64(b[3:])),
				want: Instance(binary.BigEndian.Uint64(b[11:])),
			}, key, nil
		}
	}
	return h, nil, errStranger
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
	for _, key := range c.macKeys() {
		if hmac.Equal(reply[8:], c.mac(key, "reply", b, reply[:8])) {
			return Instance(binary.BigEndian.Uint64(reply[:8])), nil
		}
	}
	return 0, errStranger
}

// answer reads the rest of a hello, whose first byte the transport has read,
// and replies. A stranger gets nothing.
func (c *Cluster) answer(conn net.Conn) (hello, error) {
	_ = conn.SetDeadline(time.Now().Add(helloTimeout))
	defer func() { _ = conn.SetDeadline(time.Time{}) }()
	b := make([]byte, helloSize)
	b[0] = watchMagic
	if _, err := io.ReadFull(conn, b[1:]); err != nil {
		return hello{}, err
	}
	h, key, err := c.decodeHello(b)
	if err != nil {
		return hello{}, err
	}
	reply := binary.BigEndian.AppendUint64(nil, uint64(c.self.m.Instance))
	reply = append(reply, c.mac(key, "reply", b, reply)...)
	_, err = conn.Write(reply)
	return h, err
}

// gossipKeys returns the keys in force, the one that encrypts first.
func (c *Cluster) gossipKeys() [][]byte { return c.keys.load().raw() }
