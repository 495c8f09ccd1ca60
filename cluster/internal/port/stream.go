package port

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// WatchMagic begins a watch stream. memberlist's begin with 244 (a label) or a
	// message type below 15.
	WatchMagic = 0xE7

	firstByteTimeout = 5 * time.Second
)

func (p *Port) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			if p.life.Err() != nil || !p.pause(err) {
				return
			}
			continue
		}
		c := p.guard.admit(conn)
		p.wg.Go(func() { p.sort(c) })
	}
}

// sort hands a stream to its owner, which the first byte names.
func (p *Port) sort(c *guardedConn) {
	stop := c.closeAtEnd(p.life)
	var first [1]byte
	_ = c.Conn.SetReadDeadline(time.Now().Add(firstByteTimeout))
	_, err := io.ReadFull(c.Conn, first[:])
	if err == nil && first[0] == WatchMagic && p.cfg.Watch != nil {
		if stop() {
			_ = c.Conn.SetReadDeadline(time.Time{})
			p.cfg.Watch(c.Conn)
		}
		c.release()
		return
	}
	if err == nil {
		if err = c.readAll(first[:]); err != nil && !errors.Is(err, errEvicted) {
			p.log.Printf("[ERR] memberlist: failed to receive: %v %s", err, memberlist.LogConn(c))
		}
	}
	if !stop() || err != nil {
		c.Close()
		return
	}
	if c.by != nil && c.by.Old() {
		p.cfg.Stale(c.by.Fingerprint(), netip.AddrPort{}, userState(c.plain))
	}
	select {
	case p.streams <- c:
	case <-p.life.Done():
		c.Close()
	}
}

// Dial opens a bare stream to another peer's port within timeout. It is not
// counted, and nothing is encrypted.
func (p *Port) Dial(to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	return p.dial(context.Background(), to, timeout)
}

func (p *Port) dial(ctx context.Context, to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	return p.cfg.Network.Dial(ctx, to)
}

// DialTimeout opens a stream for memberlist, waiting 2 s at the longest.
func (p *Port) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return p.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout is DialTimeout; the name is a member's or an Attempt's,
// and plays no part in routing.
func (p *Port) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr.Addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr.Addr, err)
	}
	var t *trace
	if v, ok := p.traces.Load(addr.Name); ok {
		t = v.(*trace)
	}
	conn, err := p.Dial(to, min(timeout, maxDial))
	t.dial(err)
	if err != nil {
		return nil, err
	}
	return p.guard.opened(conn, t), nil
}

// Send sends one frame to the peer at addr, over a stream of its own and
// encrypted with key, which need not be the one in force. It takes 2 s to dial
// and 2 s to write at the longest. Its error says what a failed dial means.
func (p *Port) Send(ctx context.Context, addr netip.AddrPort, frame []byte, key Encrypter) error {
	conn, err := p.dial(ctx, addr, maxDial)
	if err != nil {
		return explainDial(err)
	}
	defer conn.Close() //nolint:errcheck // what counts is the answer
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(maxDial))
	head := append([]byte{msgLabel, byte(len(p.cfg.Label))}, p.cfg.Label...)
	_, err = conn.Write(append(head, sealStream(key, userMessage(frame), p.cfg.Label)...))
	return err
}

// userMessage is memberlist's message for a frame of the program's own.
func userMessage(frame []byte) []byte {
	b := append([]byte{msgUser, 0x81, 0xaa}, "UserMsgLen"...)
	b = binary.BigEndian.AppendUint32(append(b, 0xce), uint32(len(frame)))
	return append(b, frame...)
}
