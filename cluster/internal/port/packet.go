package port

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

const maxDatagram = 64 << 10

func (p *Port) readPackets() {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := p.packet.ReadFrom(buf)
		at := time.Now()
		if err != nil {
			if p.life.Err() != nil || !p.pause(err) {
				return
			}
			continue
		}
		if n < 1 {
			continue
		}
		// A copy of the right size: memberlist keeps parts of it for long.
		b, err := p.openPacket(buf[:n], from)
		if err == nil {
			err = checkPacket(b)
		}
		if errors.Is(err, errSealed) {
			p.log.Printf("[ERR] memberlist: Decrypt packet failed: %v %s", err, memberlist.LogAddress(from))
			continue
		}
		if err != nil {
			p.log.Printf("[ERR] memberlist: failed to receive: %v %s", err, memberlist.LogAddress(from))
			continue
		}
		select {
		case p.packets <- &memberlist.Packet{Buf: b, From: from, Timestamp: at}:
		case <-p.life.Done():
			return
		}
	}
}

// openPacket returns a copy of a datagram, decrypted. One with another label is
// left as it is: memberlist says whose it is not.
func (p *Port) openPacket(b []byte, from net.Addr) ([]byte, error) {
	header, sealed, label := cutLabel(b)
	keys := p.cfg.Keys
	if label != p.cfg.Label || keys.Primary() == "" {
		return append([]byte(nil), b...), nil
	}
	message, by, err := keys.Open(header, sealed, []byte(label))
	if err != nil {
		if keys.TakesPlain() {
			return append([]byte(nil), b...), nil
		}
		return nil, errSealed
	}
	if a, ok := from.(*net.UDPAddr); ok && by.Old() {
		ap := a.AddrPort()
		p.cfg.Stale(by.Fingerprint(), netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil)
	}
	return message, nil
}

// sealPacket encrypts a datagram behind its label.
func (p *Port) sealPacket(b []byte) []byte {
	key := p.cfg.Keys.Sends()
	if key == nil {
		return b
	}
	header, message, label := cutLabel(b)
	out := make([]byte, 0, len(b)+key.Overhead())
	return key.Seal(append(out, header...), message, []byte(label))
}

// WriteTo sends a packet; it does not block.
func (p *Port) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send to %s: %w", addr, err)
	}
	_, err = p.packet.WriteTo(p.sealPacket(b), net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

// WriteToAddress is WriteTo; the name plays no part in routing.
func (p *Port) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return p.WriteTo(b, addr.Addr)
}

// checkPacket says whether memberlist may have the datagram b. It refuses
// compressed ones, which peers do not send: 60 KB of them unpack to 40 MB. An
// encrypted datagram begins with 0 or 1 and passes.
func checkPacket(b []byte) error {
	if len(b) > 1 && b[0] == msgLabel {
		b = b[min(len(b), 2+int(b[1])):]
	}
	if len(b) > 5 && b[0] == msgCRC {
		b = b[5:]
	}
	if len(b) == 0 {
		return nil
	}
	switch b[0] {
	case msgCompress:
		return fmt.Errorf("%w: compressed", errIntake)
	case msgCompound:
		return checkCompound(b[1:])
	}
	return nil
}

func checkCompound(b []byte) error {
	if len(b) < 1 || len(b) < 1+2*int(b[0]) {
		return nil // memberlist says so
	}
	sizes, parts := b[1:1+2*int(b[0])], b[1+2*int(b[0]):]
	for ; len(sizes) > 0; sizes = sizes[2:] {
		n := int(binary.BigEndian.Uint16(sizes))
		if n > len(parts) {
			return nil
		}
		if n > 0 && (parts[0] == msgCompress || parts[0] == msgCompound) {
			return fmt.Errorf("%w: type %d within a compound", errIntake, parts[0])
		}
		parts = parts[n:]
	}
	return nil
}
