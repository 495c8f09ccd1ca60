package cluster

import (
	"context"
	"net"
	"net/netip"
)

// Network is where a peer's gossip port lives: the seam between this package
// and the machine. The zero Config uses the real one; tests put a simulated
// network here. One Network value belongs to one host.
//
// Its errors are those of package net: a refused connection satisfies
// errors.Is(err, syscall.ECONNREFUSED), a port in use syscall.EADDRINUSE, a
// time-out net.Error.Timeout. All methods may be called from any goroutine.
type Network interface {
	// ListenPacket opens the datagram half of the gossip port. Addresses that
	// its ReadFrom returns and its WriteTo takes are *net.UDPAddr.
	ListenPacket(addr netip.AddrPort) (net.PacketConn, error)
	// Listen opens the stream half of the gossip port. Port 0 picks a free one.
	Listen(addr netip.AddrPort) (net.Listener, error)
	// Dial opens a stream to another peer's gossip port, bounded by ctx.
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
}

// Resolver is what a peer asks DNS for; *net.Resolver satisfies it. Tests put a
// name server of their own here. Its errors are those of package net, such as
// *net.DNSError. Both methods may be called from any goroutine and heed ctx.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
}
