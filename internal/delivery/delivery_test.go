// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"sealift/cose"
)

// ends are the two ends of a session.
func ends(t *testing.T, alpn string) (owner, tee *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled := make(chan net.Conn, 1)
	go func() {
		c, _ := net.Dial("tcp", l.Addr().String())
		dialled <- c
	}()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a := <-dialled
	t.Cleanup(func() { a.Close(); b.Close() })
	tee = tls.Server(b, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, CurvePreferences: Curves,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	owner = tls.Client(a, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, CurvePreferences: Curves, InsecureSkipVerify: true})
	go tee.Handshake()
	if err := errors.Join(owner.Handshake(), tee.Handshake()); err != nil {
		t.Fatal(err)
	}
	return owner, tee
}

// plays runs an Agent's end; what it returns fails the test.
func plays(t *testing.T, do func() error) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		if err := do(); err != nil {
			t.Errorf("the Agent's end: %v", err)
		}
	}()
	return done
}

var accepts = func([]byte, []byte) error { return nil }

// TestChallenge: both ends compute one value, and another session another one. Without the protocol there is none.
func TestChallenge(t *testing.T) {
	var all [][]byte
	for range 2 {
		owner, tee := ends(t, ALPN)
		a, err1 := Challenge(owner.ConnectionState())
		b, err2 := Challenge(tee.ConnectionState())
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) || len(a) != 64 {
			t.Fatalf("%x %x %v", a, b, err)
		}
		all = append(all, a)
	}
	if bytes.Equal(all[0], all[1]) {
		t.Error("two sessions have one challenge")
	}
	owner, _ := ends(t, "another")
	if _, err := Challenge(owner.ConnectionState()); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

// TestOutcomeInTheMiddle: the Agent stops taking a payload, and its reason arrives all the same.
func TestOutcomeInTheMiddle(t *testing.T) {
	owner, tee := ends(t, ALPN)
	done := plays(t, func() error {
		s, _, err := Accept(tee, func(c []byte) ([]byte, error) { return c, nil }, 100)
		if err != nil {
			return err
		}
		r, err := s.Fetch("large", -1)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			return err
		}
		if _, err := s.Fetch("another", -1); !errors.Is(err, ErrMalformed) {
			t.Errorf("a payload in the middle of another: %v", err)
		}
		return s.Finish(Outcome{Code: Refused, Text: strings.Repeat("ä", MaxText)})
	})
	out, err := Deliver(owner, accepts, Package{Envelope: []byte("e"), Open: func(string) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(make([]byte, 50<<20))), 50 << 20, nil
	}})
	if err != nil || out.Code != Refused || len(out.Text) > MaxText {
		t.Errorf("%.40v, %v", out, err)
	}
	owner.Close()
	<-done
}

// TestOwnerBreaksOff: Evidence that is refused ends the session before the offer; a payload that is shorter than announced is never whole.
func TestOwnerBreaksOff(t *testing.T) {
	refused := errors.New("refused")
	owner, tee := ends(t, ALPN)
	done := plays(t, func() error {
		if _, _, err := Accept(tee, func(c []byte) ([]byte, error) { return c, nil }, 100); !errors.Is(err, ErrInterrupted) {
			t.Errorf("an offer came: %v", err)
		}
		return nil
	})
	if _, err := Deliver(owner, func(bundle, challenge []byte) error {
		if !bytes.Equal(bundle, challenge) {
			t.Error("the ends do not agree on the challenge")
		}
		return refused
	}, Package{}); !errors.Is(err, refused) {
		t.Error(err)
	}
	owner.Close()
	<-done

	owner, tee = ends(t, ALPN)
	done = plays(t, func() error {
		s, _, err := Accept(tee, func(c []byte) ([]byte, error) { return c, nil }, 100)
		if err != nil {
			return err
		}
		if _, err := s.Fetch("too large", 10); !errors.Is(err, ErrNotOffered) {
			t.Errorf("more than was asked for: %v", err)
		}
		r, err := s.Fetch("short", -1)
		if err != nil {
			return err
		}
		if n, err := io.Copy(io.Discard, r); !errors.Is(err, ErrInterrupted) || n == 100 {
			t.Errorf("%d bytes, %v", n, err)
		}
		return nil
	})
	if _, err := Deliver(owner, accepts, Package{Open: func(string) (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader("less")), 100, nil
	}}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	owner.Close()
	<-done
}

// TestHostileAgent: whatever an Agent says, the owner ends with an error.
func TestHostileAgent(t *testing.T) {
	for name, says := range map[string][]any{
		"nothing":           nil,
		"no Evidence":       {fromTEE{Outcome: &Outcome{}}},
		"two things":        {fromTEE{Evidence: []byte("e"), Want: &want{}}},
		"Evidence twice":    {fromTEE{Evidence: []byte("e")}, fromTEE{Evidence: []byte("e")}},
		"an empty message":  {fromTEE{Evidence: []byte("e")}, fromTEE{}},
		"a long text":       {fromTEE{Evidence: []byte("e")}, fromTEE{Outcome: &Outcome{Text: strings.Repeat("x", MaxText+1)}}},
		"large Evidence":    {fromTEE{Evidence: make([]byte, maxFromTEE)}},
		"another structure": {[]string{"hello"}},
		"the end":           {fromTEE{Evidence: []byte("e")}},
	} {
		t.Run(name, func(t *testing.T) {
			owner, tee := ends(t, ALPN)
			go func() {
				for _, m := range says {
					_ = writeMessage(tee, m)
				}
				_ = tee.CloseWrite()
				_, _ = io.Copy(io.Discard, tee)
			}()
			out, err := Deliver(owner, accepts, Package{Open: func(string) (io.ReadCloser, int64, error) { return nil, 0, ErrNotOffered }})
			if err == nil {
				t.Errorf("%+v", out)
			}
		})
	}
}

// FuzzMessage: what is read of either end reads the same when it is written again.
func FuzzMessage(f *testing.F) {
	for _, v := range []any{fromTEE{Evidence: []byte("e")}, fromTEE{Want: &want{"ni:///x", 7}}, fromTEE{Outcome: &Outcome{Code: Refused}},
		offer{[]byte("e")}, payload{-1}} {
		data, err := cose.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []any{&fromTEE{}, &offer{}, &payload{}} {
			if readMessage(bytes.NewReader(data), 1<<16, v) != nil {
				continue
			}
			var again bytes.Buffer
			same := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := errors.Join(writeMessage(&again, v), readMessage(&again, 1<<16, same)); err != nil || !reflect.DeepEqual(v, same) {
				t.Fatalf("%x became %+v, %v", data, same, err)
			}
		}
	})
}
