package checks

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// The gRPC health protocol needs one call with one string, answered by one
// number. net/http speaks the HTTP/2 beneath it, so that no gRPC has to be
// built into the agent.
// https://github.com/grpc/grpc/blob/master/doc/health-checking.md

// frame is one gRPC message, uncompressed.
type frame []byte

func (f frame) reader() io.Reader {
	b := make([]byte, 5, 5+len(f))
	binary.BigEndian.PutUint32(b[1:], uint32(len(f)))
	return bytes.NewReader(append(b, f...))
}

// maxReply bounds what is read of an answer, in bytes: it is a few.
const maxReply = 1 << 10

func (c *Checker) probeGRPC(ctx context.Context, target string) (health, output string) {
	hostport, service, _ := strings.Cut(target, "/")
	var msg frame // HealthCheckRequest{service}: field 1, a string of at most 200 bytes
	if service != "" {
		msg = append(binary.AppendUvarint(frame{1<<3 | 2}, uint64(len(service))), service...)
	}
	dial, hangUp := c.dialOnce(ctx)
	defer hangUp()
	t := &http.Transport{DialContext: dial, DisableCompression: true, MaxResponseHeaderBytes: maxHeader, Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	u := url.URL{Scheme: "http", Host: hostport, Path: "/grpc.health.v1.Health/Check"}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), msg.reader())
	if err != nil {
		return Critical, "no address"
	}
	req.Header.Set("User-Agent", "peer-check")
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := t.RoundTrip(req)
	if err != nil {
		return Critical, why(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return Critical, why(err)
	case len(body) > maxReply || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc"):
		return Critical, "what answers is no gRPC server"
	}
	status := resp.Trailer.Get("Grpc-Status")
	if status == "" {
		status = resp.Header.Get("Grpc-Status") // an answer of trailers only
	}
	switch code, err := strconv.ParseUint(status, 10, 8); {
	case err != nil:
		return Critical, "what answers is no gRPC server"
	case code == 5:
		return Critical, fmt.Sprintf("the gRPC server knows no service %q", service)
	case code == 12:
		return Critical, "the gRPC server has no health service"
	case code != 0:
		return Critical, fmt.Sprintf("the gRPC server answers with status %d", code)
	}
	switch n, ok := servingStatus(body); {
	case !ok:
		return Critical, "what answers is no gRPC health service"
	case n == 1:
		return Passing, "serving"
	case n == 2:
		return Critical, "not serving"
	default:
		return Critical, fmt.Sprintf("serving status %d", n)
	}
}

// servingStatus reads HealthCheckResponse: field 1, an enumeration.
func servingStatus(b []byte) (uint64, bool) {
	if len(b) < 5 || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:5])) != uint64(len(b)-5) {
		return 0, false
	}
	b = b[5:]
	var status uint64
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 || key&7 != 0 { // all that may stand there are numbers
			return 0, false
		}
		v, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return 0, false
		}
		if key>>3 == 1 {
			status = v
		}
		b = b[n+m:]
	}
	return status, true
}

// dialOnce returns a way to dial and one to close what was dialled, also what
// comes of a dial that is still under way: net/http keeps an HTTP/2 connection
// whose request was given up.
func (c *Checker) dialOnce(ctx context.Context) (dial func(context.Context, string, string) (net.Conn, error), hangUp func()) {
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := c.cfg.Dial(ctx, network, addr)
		if err == nil {
			context.AfterFunc(over, func() { conn.Close() })
		}
		return conn, err
	}, end
}
