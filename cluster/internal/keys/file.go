package keys

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	newKeyBytes     = 32
	maxKeys         = 16        // each one is tried on every packet that none before it opens
	maxKeyFileBytes = 64 * 1024 // room for maxKeys and many comments
)

// ReadFile returns the gossip keys in the file at path, of which the first
// encrypts and all decrypt. The file holds one key a line, in base64, of 16,
// 24 or 32 bytes; '#' begins a comment. A file that anybody but its owner may
// read is refused, and so is one without a key or with anything that is not
// one; the error says what to do and never what the file contains.
func ReadFile(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read key file: %w: make one with: (umask 077; peer keygen > %s)", err, path)
		}
		return nil, fmt.Errorf("read key file: %w", err)
	}
	defer f.Close() //nolint:errcheck // opened for reading

	// Of the open file, not of its name: nobody can swap them in between.
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read key file %s: it is not a regular file: name a file with one base64 key a line", path)
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return nil, fmt.Errorf("read key file %s: others than its owner may open it (mode %#o): chmod 600 %s", path, m, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", path, err)
	}
	return keys, nil
}

// Draw draws a gossip key of 32 bytes from random and returns it as the line
// that ReadFile reads, without a newline.
func Draw(random io.Reader) (string, error) {
	key, err := drawKey(random)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(key), nil
}

// parseKeys returns the keys in the content of a key file, each once, or all
// that is wrong with it.
func parseKeys(data []byte) ([][]byte, error) {
	if len(data) > maxKeyFileBytes {
		return nil, fmt.Errorf("it is larger than %d bytes: keep one base64 key a line and nothing else in it", maxKeyFileBytes)
	}
	var keys [][]byte
	var errs []error
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line, _, _ = bytes.Cut(line, []byte("#"))
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			if len(errs) < maxKeys {
				errs = append(errs, fmt.Errorf("line %d: %w", number, err))
			}
			continue
		}
		if !containsKey(keys, key) {
			keys = append(keys, key)
		}
	}
	switch {
	case len(errs) > 0:
		return nil, errors.Join(errs...)
	case len(keys) == 0:
		return nil, errors.New("it holds no key: put in the line that peer keygen prints")
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("it holds %d keys: remove old ones, %d is the limit", len(keys), maxKeys)
	}
	return keys, nil
}

func parseKey(line []byte) ([]byte, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(string(line))
	if err != nil {
		// Not the library's error: it may not quote the input today, but that is no promise.
		return nil, errors.New("not a base64 key: replace it with a line that peer keygen prints")
	}
	switch len(key) {
	case 16, 24, 32:
		return key, nil
	}
	return nil, fmt.Errorf("a key of %d bytes: it must have 16, 24 or 32, peer keygen makes one of 32", len(key))
}

func containsKey(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if bytes.Equal(k, key) {
			return true
		}
	}
	return false
}

// drawKey draws a gossip key.
func drawKey(random io.Reader) ([]byte, error) {
	key := make([]byte, newKeyBytes)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("draw a key: %w", err)
	}
	return key, nil
}
