package actions

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Tolerance is how far a signature's time may be from ours.
const Tolerance = 300 * time.Second

// ErrEmptySecret says that a secret is missing where one is needed.
var ErrEmptySecret = errors.New("actions: the secret is empty; it is the asec_ text of the action")

// Verify tells whether header (Authio-Signature) is a fresh signature of the raw body under one of the secrets.
//
// A header is t=<Unix seconds>,v1=<hex>: each v1 is the HMAC-SHA256 over t, a dot and the raw body, with a whole
// secret (asec_ and all) as its key. Give both secrets while one is rotated. Everything that could match is compared
// in constant time. Without a header, or with an empty secret, nothing is valid.
func Verify(secrets []string, header string, body []byte) bool {
	return verifyAt(secrets, header, body, time.Now())
}

func verifyAt(secrets []string, header string, body []byte, now time.Time) bool {
	var times []string
	var given [][]byte
	for _, element := range strings.Split(header, ",") {
		name, value, _ := strings.Cut(strings.Trim(element, " \t"), "=")
		switch name {
		case "t":
			times = append(times, value)
		case "v1":
			if signature, ok := lowerHex(value); ok {
				given = append(given, signature)
			}
		}
	}
	if len(times) != 1 {
		return false
	}
	at, ok := seconds(times[0])
	if !ok {
		return false
	}
	if away := now.Unix() - at; away > int64(Tolerance/time.Second) || -away > int64(Tolerance/time.Second) {
		return false
	}
	matches := false
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		expected := mac(secret, times[0], body)
		for _, signature := range given {
			if hmac.Equal(expected, signature) {
				matches = true
			}
		}
	}
	return matches
}

// Sign makes the header Authio-Response-Signature of an answer's raw body.
func Sign(secret string, body []byte) (string, error) {
	if secret == "" {
		return "", ErrEmptySecret
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	return "t=" + at + ",v1=" + hex.EncodeToString(mac(secret, at, body)), nil
}

func mac(secret, at string, body []byte) []byte {
	code := hmac.New(sha256.New, []byte(secret))
	code.Write([]byte(at + "."))
	code.Write(body)
	return code.Sum(nil)
}

func seconds(text string) (int64, bool) {
	if len(text) > 15 || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	at, err := strconv.ParseInt(text, 10, 64)
	return at, err == nil
}

func lowerHex(text string) ([]byte, bool) {
	if len(text) != 2*sha256.Size || text != strings.ToLower(text) {
		return nil, false
	}
	signature, err := hex.DecodeString(text)
	return signature, err == nil
}
