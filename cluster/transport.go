package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is the gossip port: memberlist's way to the Network, and the only
// one who accepts its streams. A stream's first byte tells whose it is:
// memberlist's own begin with a label, an encryption or a message type, ours
// with watchMagic. memberlist gets a stream when its whole message is in and
// was checked, see intake and guard.
//
// It runs one goroutine for packets, one that accepts, and one for each stream
// that is being read. Shutdown ends them all and waits.
type transport struct {
	net       Network
	packet    net.PacketConn
	listener  net.Listener
	advertise netip.AddrPort
	packets   chan *memberlist.Packet
	streams   chan net.Conn
	// watch takes over a stream that begins with watchMagic. It runs on the
	// stream's goroutine and owns conn; ctx ends with the transport.
	watch func(conn net.Conn)

	log *stdlog.Logger // as memberlist's; set before start
	// stale is told of each message in an old key; set before start. It must not
	// block. from is zero when only the instance is known, and the other way round.
	stale func(by *sealer, from netip.AddrPort, inst Instance)

	guard  guard         // its label and keys are set before start
	traces sync.Map      // *trace by the name of an attempt to join
	joins  atomic.Uint64 // names given

	life context.Context // ends with the transport, and with it dials and streams that are read
	end  context.CancelFunc
	wg   sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

const (
	// watchMagic begins our own streams. memberlist's begin with 244 (a label)
	// or a message type below 15.
	watchMagic = 0xE7

	firstByteTimeout = 5 * time.Second
	maxDial          = 2 * time.Second // memberlist would wait 10 s for a host that is gone
	maxDatagram      = 64 << 10
	bindTries        = 10
)

// openTransport binds both halves of the gossip port before anything runs.
func openTransport(n Network, bind netip.AddrPort) (*transport, error) {
	t := &transport{
		net:     n,
		packets: make(chan *memberlist.Packet),
		streams: make(chan net.Conn),
	}
	t.life, t.end = context.WithCancel(context.Background())
	for try := 1; ; try++ {
		err := t.bind(bind)
		if err == nil {
			return t, nil
		}
		// Only a port that the kernel picked for one half can be taken in the other.
		if bind.Port() != 0 || try == bindTries || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, explainBind(bind, err)
		}
	}
}

func (t *transport) bind(bind netip.AddrPort) error {
	l, err := t.net.Listen(bind)
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	p, err := t.net.ListenPacket(netip.AddrPortFrom(bind.Addr(), port))
	if err != nil {
		l.Close()
		return err
	}
	t.listener, t.packet = l, p
	return nil
}

func explainBind(bind netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("gossip port %s is in use: another agent may run here; stop it or choose another port with --bind: %w", bind, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this host has no address %s: choose one of its own with --bind: %w", bind.Addr(), err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("not allowed to listen on %s: choose a port above 1023 with --bind: %w", bind, err)
	}
	return fmt.Errorf("listen for gossip on %s: %w", bind, err)
}

// port returns the port that was bound.
func (t *transport) port() uint16 { return t.listener.Addr().(*net.TCPAddr).AddrPort().Port() }

// start begins to receive. memberlist must be reading by then or soon.
func (t *transport) start() {
	t.wg.Go(t.readPackets)
	t.wg.Go(t.accept)
}

func (t *transport) readPackets() {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := t.packet.ReadFrom(buf)
		at := time.Now()
		if err != nil {
			if t.life.Err() != nil || !t.pause(err) {
				return
			}
			continue
		}
		if n < 1 {
			continue
		}
		// A copy of the right size: memberlist keeps parts of it for long.
		b, err := t.openPacket(buf[:n], from)
		if err == nil {
			err = checkPacket(b)
		}
		if errors.Is(err, errSealed) {
			t.log.Printf("[ERR] memberlist: Decrypt packet failed: %v %s", err, memberlist.LogAddress(from))
			continue
		}
		if err != nil {
			t.log.Printf("[ERR] memberlist: failed to receive: %v %s", err, memberlist.LogAddress(from))
			continue
		}
		p := &memberlist.Packet{Buf: b, From: from, Timestamp: at}
		select {
		case t.packets <- p:
		case <-t.life.Done():
			return
		}
	}
}

// openPacket returns a copy of a datagram, decrypted. One with another label is
// left as it is: memberlist says whose it is not.
func (t *transport) openPacket(b []byte, from net.Addr) ([]byte, error) {
	header, sealed, label := cutLabel(b)
	keys := t.guard.keys.load()
	if label != t.guard.label || len(keys.keys) == 0 {
		return append([]byte(nil), b...), nil
	}
	message, by, err := keys.open(header, sealed, []byte(label))
	switch {
	case err == nil:
		if by.old() {
			if a, ok := from.(*net.UDPAddr); ok {
				ap := a.AddrPort()
				t.stale(by.sealer, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), 0)
			}
		}
		return message, nil
	case keys.takesPlain():
		return append([]byte(nil), b...), nil
	}
	return nil, err
}

// sealPacket encrypts a datagram behind its label.
func (t *transport) sealPacket(b []byte) []byte {
	key := t.guard.keys.load().sends()
	if key == nil {
		return b
	}
	header, message, label := cutLabel(b)
	out := make([]byte, 0, len(b)+sealOverhead)
	return key.seal(append(out, header...), message, []byte(label))
}

func (t *transport) accept() {
	for {
		conn, err := t.listener.Accept()
		if err != nil {
			if t.life.Err() != nil || !t.pause(err) {
				return
			}
			continue
		}
		g := t.guard.admit(conn)
		t.wg.Go(func() { t.sort(g) })
	}
}

// sort hands a stream to whom its first byte names.
func (t *transport) sort(g *guardedConn) {
	stop := g.closeAtEnd(t.life)
	var first [1]byte
	_ = g.Conn.SetReadDeadline(time.Now().Add(firstByteTimeout))
	_, err := io.ReadFull(g.Conn, first[:])
	if err == nil && first[0] == watchMagic && t.watch != nil {
		if stop() {
			_ = g.Conn.SetReadDeadline(time.Time{})
			t.watch(g.Conn)
		}
		g.release()
		return
	}
	if err == nil {
		if err = g.readAll(first[:]); err != nil && !errors.Is(err, errEvicted) {
			t.log.Printf("[ERR] memberlist: failed to receive: %v %s", err, memberlist.LogConn(g))
		}
	}
	if !stop() || err != nil {
		g.Close()
		return
	}
	if g.by.old() {
		t.stale(g.by.sealer, netip.AddrPort{}, stateOwner(g.plain))
	}
	select {
	case t.streams <- g:
	case <-t.life.Done():
		g.Close()
	}
}

// pause waits a little after a receive error that is not the end, such as too
// many open files. It reports whether to go on.
func (t *transport) pause(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-time.After(50 * time.Millisecond):
		return true
	case <-t.life.Done():
		return false
	}
}

// FinalAdvertiseAddr returns what Start chose.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo sends a packet; it does not block.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send to %s: %w", addr, err)
	}
	_, err = t.packet.WriteTo(t.sealPacket(b), net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

// WriteToAddress is WriteTo; the name plays no part in routing.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// DialTimeout opens a stream, waiting maxDial at the longest.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *transport) dial(to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.life, timeout)
	defer cancel()
	return t.net.Dial(ctx, to)
}

// DialAddressTimeout is DialTimeout; the name is a member's, or that of an
// attempt to join, and plays no part in routing.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr.Addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr.Addr, err)
	}
	var tr *trace
	if v, ok := t.traces.Load(addr.Name); ok {
		tr = v.(*trace)
	}
	conn, err := t.dial(to, min(timeout, maxDial))
	tr.dial(err)
	if err != nil {
		return nil, err
	}
	return t.guard.opened(conn, tr), nil
}

// traced returns a name for an attempt to join, the trace that its stream
// will leave, and what ends it.
func (t *transport) traced() (name string, tr *trace, done func()) {
	name = "join " + strconv.FormatUint(t.joins.Add(1), 10) // a blank: no member's name has one
	tr = &trace{}
	t.traces.Store(name, tr)
	return name, tr, func() { t.traces.Delete(name) }
}

// PacketCh is read by memberlist until it has shut down.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is read by memberlist until it has shut down.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes the port and waits for the goroutines above. It may be
// called twice.
func (t *transport) Shutdown() error {
	t.end()
	t.listener.Close()
	t.packet.Close()
	t.wg.Wait()
	return nil
}

// realNetwork is the machine's own.
type realNetwork struct{}

func (realNetwork) ListenPacket(addr netip.AddrPort) (net.PacketConn, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	_ = c.SetReadBuffer(2 << 20) // as much as the kernel grants: bursts at a mass join
	return c, nil
}

func (realNetwork) Listen(addr netip.AddrPort) (net.Listener, error) {
	return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
}

func (realNetwork) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr.String())
}
