package port

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	maxDial   = 2 * time.Second // memberlist would wait 10 s for a host that is gone
	bindTries = 10
)

// Port is a bound gossip port, made by Open. It is memberlist's transport. All
// methods may be called from any goroutine.
//
// Its goroutines: one for packets, one that accepts, and one for each stream
// that is being read or watched. Shutdown ends them all and waits.
type Port struct {
	cfg      Config
	packet   net.PacketConn
	listener net.Listener
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	log      *stdlog.Logger // as memberlist's
	guard    *guard
	traces   sync.Map      // *trace by the name of an attempt to join
	joins    atomic.Uint64 // names given

	life context.Context // ends with the port, and with it dials and streams that are read
	end  context.CancelFunc
	wg   sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*Port)(nil)

// Open binds both halves of the port. The kernel keeps what arrives until
// Serve. Its error says what to do about an address that cannot be had.
func Open(cfg Config) (*Port, error) {
	cfg = cfg.withDefaults()
	p := &Port{
		cfg:     cfg,
		packets: make(chan *memberlist.Packet),
		streams: make(chan net.Conn),
		log:     newMemberlistLogger(cfg.Logger, time.Now),
		guard:   newGuard(cfg),
	}
	for try := 1; ; try++ {
		err := p.bind(cfg.Bind)
		if err == nil {
			break
		}
		// Only a port that the kernel picked for one half can be taken in the other.
		if cfg.Bind.Port() != 0 || try == bindTries || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, explainBind(cfg.Bind, err)
		}
	}
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

func (p *Port) bind(addr netip.AddrPort) error {
	l, err := p.cfg.Network.Listen(addr)
	if err != nil {
		return err
	}
	number := l.Addr().(*net.TCPAddr).AddrPort().Port()
	packet, err := p.cfg.Network.ListenPacket(netip.AddrPortFrom(addr.Addr(), number))
	if err != nil {
		l.Close()
		return err
	}
	p.listener, p.packet = l, packet
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

// Serve begins to receive. It is called once, when memberlist reads PacketCh
// and StreamCh, or will soon, and when Watch and Stale may be called. It does
// not block.
func (p *Port) Serve() {
	p.wg.Go(p.readPackets)
	p.wg.Go(p.accept)
}

// Addr returns the address that was bound. Its host may be a wildcard.
func (p *Port) Addr() netip.AddrPort { return p.listener.Addr().(*net.TCPAddr).AddrPort() }

// Logger returns the logger for memberlist's own lines.
func (p *Port) Logger() *stdlog.Logger { return p.log }

// Context ends when the port shuts down.
func (p *Port) Context() context.Context { return p.life }

// Shutdown closes the port and waits for its goroutines. It may be called
// more than once, and without Serve.
func (p *Port) Shutdown() error {
	p.end()
	p.listener.Close()
	p.packet.Close()
	p.wg.Wait()
	return nil
}

// FinalAdvertiseAddr returns what memberlist's Config says, which the program
// has chosen with care.
func (p *Port) FinalAdvertiseAddr(ip string, number int) (net.IP, int, error) {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, 0, fmt.Errorf("advertise %q: %w", ip, err)
	}
	return a.AsSlice(), number, nil
}

// PacketCh is read by memberlist until it has shut down.
func (p *Port) PacketCh() <-chan *memberlist.Packet { return p.packets }

// StreamCh is read by memberlist until it has shut down.
func (p *Port) StreamCh() <-chan net.Conn { return p.streams }

// pause waits a little after a receive error that is not the end, such as too
// many open files. It reports whether to go on.
func (p *Port) pause(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-time.After(50 * time.Millisecond):
		return true
	case <-p.life.Done():
		return false
	}
}
