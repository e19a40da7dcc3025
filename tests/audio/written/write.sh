#!/bin/bash
# Writes the files beside it, by the programs that users have, into pipes where a length is to stay open:
#   apt-get install sox ffmpeg lame flac vorbis-tools opus-tools && bash tests/audio/written/write.sh
# They hold 0.25 s of two tones (8000 Hz, mono), loud and then soft.  Of SoX 14.4.2, FFmpeg 5.1, LAME 3.100,
# flac 1.4.2, oggenc 1.4.2, opusenc 0.2.
set -e
cd "$(dirname "$0")"
raw=$(mktemp); wav=$(mktemp --suffix .wav); wide=$(mktemp --suffix .wav); six=$(mktemp --suffix .wav)
sox -R "|sox -R -n -r 8000 -b 16 -p synth 0.125 sine 440 vol 0.5" "|sox -R -n -r 8000 -b 16 -p synth 0.125 sine 550 vol 0.05" -b 16 $wav
sox -R $wav -t raw $raw
sox -R $wav -r 16000 -c 2 $wide
sox -R -M "|sox -R -n -r 8000 -p synth 0.5 sine 300" "|sox -R -n -r 8000 -p synth 0.5 sine 400" \
  "|sox -R -n -r 8000 -p synth 0.5 sine 500" "|sox -R -n -r 8000 -p synth 0.5 sine 60" \
  "|sox -R -n -r 8000 -p synth 0.5 sine 700" "|sox -R -n -r 8000 -p synth 0.5 sine 800" -b 16 $six vol 0.3
cp $wav sound.wav
input="-t raw -r 8000 -c 1 -b 16 -e signed -"
for form in wav aiff au; do cat $raw | sox -R $input -t $form - 2>/dev/null | cat > sox.$form; done
ff="ffmpeg -v error -bitexact -f s16le -ar 8000 -ac 1 -i - -fflags +bitexact"
for form in wav aiff au w64 caf flac; do cat $raw | $ff -f $form - | cat > ffmpeg.$form; done
cat $raw | $ff -f wav -rf64 always - | cat > ffmpeg.rf64
cat $raw | $ff -f wav -c:a adpcm_ms - | cat > ffmpeg_adpcm.wav
cat $raw | $ff -f webm -c:a libopus -b:a 16k - | cat > ffmpeg.webm
cat $raw | flac --totally-silent -c --no-padding --force-raw-format --endian=little --sign=signed --channels=1 --bps=16 \
  --sample-rate=8000 - | cat > flac.flac
lame --quiet -V 5 $wav lame.mp3                     # with LAME's first frame
lame --quiet -V 5 -t $wav lame_t.mp3                # without
lame --quiet -V 5 --tt title --add-id3v2 $wav lame_tags.mp3  # ID3v2 before, ID3v1 after
lame --quiet -V 5 -m s $wide lame_wide.mp3
oggenc -Q -s 1 -o oggenc.ogg $wav
oggenc -Q -s 2 -o oggenc_wide.ogg $wide
opusenc --quiet --serial 1 --bitrate 16 $wav opusenc.opus
opusenc --quiet --serial 2 --bitrate 24 $wide opusenc_wide.opus
ffmpeg -v error -i $six -c:a pcm_s16le -channel_layout 5.1 -y $wide.6.wav
oggenc -Q -s 3 -q -1 -o oggenc_51.ogg $wide.6.wav
opusenc --quiet --serial 4 --bitrate 256 $wide.6.wav opusenc_51.opus
flac --totally-silent -f --no-padding -o flac_51.flac $wide.6.wav
ffmpeg -v error -bitexact -i $wide -fflags +bitexact -c:a aac -b:a 32k -y -f adts ffmpeg_wide.aac
ffmpeg -v error -bitexact -i $wav -fflags +bitexact -c:a aac -ar 16000 -b:a 16k -y -f adts ffmpeg.aac
ffmpeg -v error -bitexact -i $wav -fflags +bitexact -c:a libmp3lame -b:a 16k -y ffmpeg_mp3.wav
rm -f $raw $wav $wide $six $wide.6.wav
