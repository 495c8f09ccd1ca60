package port

import (
	"context"
	"net"
	"net/netip"

	"github.com/hashicorp/go-hclog"
)

// Config is all that a port needs. Open reads it; nothing is set later.
type Config struct {
	// Network is where the port lives. Default: this machine's own.
	Network Network
	// Bind is the address to listen on; port 0 picks a free one.
	Bind netip.AddrPort
	// Label is the cluster's. Messages with another one are refused.
	Label string
	// Keys encrypts and decrypts. Default: plain text.
	Keys Sealer
	// MaxNodes bounds the nodes in one exchange of tables, and MaxFrame the bytes
	// of one frame that the program above memberlist sends on a stream.
	MaxNodes, MaxFrame int
	// Watch takes over each stream that begins with WatchMagic, with that byte
	// read. It runs on a goroutine of the stream's own, owns conn, and must return
	// soon after Context has ended. Default: such streams are closed.
	Watch func(conn net.Conn)
	// Stale is told of each message in a key that is being replaced: its
	// fingerprint, and who sent it. A datagram has a source; a stream has state,
	// what the program at the other end added to its table, or nil. It runs on
	// the goroutine that received the message and must not block. Default: none.
	Stale func(fingerprint string, from netip.AddrPort, state []byte)
	// Logger receives memberlist's lines and the port's, re-levelled.
	// Default: none.
	Logger hclog.Logger
}

// Network is the seam between the port and the machine. Its errors are those
// of package net. All methods may be called from any goroutine.
type Network interface {
	ListenPacket(addr netip.AddrPort) (net.PacketConn, error)
	Listen(addr netip.AddrPort) (net.Listener, error)
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
}

// Sealer encrypts and decrypts gossip with the keys in force. The keys may
// change at any time, but once there is one there is always one, and once plain
// text is refused it stays refused. All methods may be called from any
// goroutine.
type Sealer interface {
	// Primary returns the fingerprint of the first key, "" without any.
	Primary() string
	// Sends returns the key to encrypt with, nil for plain text.
	Sends() Key
	// TakesPlain says whether plain text is taken in.
	TakesPlain() bool
	// Open decrypts sealed, which was authenticated together with ad, and returns
	// the message behind a copy of head, and the key.
	Open(head, sealed, ad []byte) (message []byte, by Key, err error)
}

// Encrypter is a key as it encrypts.
type Encrypter interface {
	// Seal appends the encrypted message to dst, authenticated together with ad.
	Seal(dst, message, ad []byte) []byte
	// Overhead is by how many bytes Seal makes a message longer.
	Overhead() int
}

// Key is one key of a Sealer. It is an alias, so that the package that has the
// keys need not import this one.
type Key = interface {
	Encrypter
	// Fingerprint tells the key from others without revealing it.
	Fingerprint() string
	// Old says whether the key is being replaced.
	Old() bool
}

func (c Config) withDefaults() Config {
	if c.Network == nil {
		c.Network = Machine()
	}
	if c.Keys == nil {
		c.Keys = plainText{}
	}
	if c.Stale == nil {
		c.Stale = func(string, netip.AddrPort, []byte) {}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

// plainText is a Sealer without keys.
type plainText struct{}

func (plainText) Primary() string  { return "" }
func (plainText) Sends() Key       { return nil }
func (plainText) TakesPlain() bool { return true }
func (plainText) Open(_, _, _ []byte) ([]byte, Key, error) {
	return nil, nil, errSealed
}

// Machine returns this machine's own network.
func Machine() Network { return machine{} }

type machine struct{}

func (machine) ListenPacket(addr netip.AddrPort) (net.PacketConn, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	_ = c.SetReadBuffer(2 << 20) // as much as the kernel grants: bursts at a mass join
	return c, nil
}

func (machine) Listen(addr netip.AddrPort) (net.Listener, error) {
	return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
}

func (machine) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr.String())
}
