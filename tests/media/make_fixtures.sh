#!/usr/bin/env bash
# Makes the small files of tests/media/fixtures with tools other than the product's: ffmpeg, ImageMagick and exiftool.
# The files are in the repository, so this runs only to change them:  bash tests/media/make_fixtures.sh
#
# Every sound is a sine of 440 Hz at amplitude 0.25 (quieter in the further channels).
# Every video shows four quarters: red, green / blue, grey; the grey of frame n is 40 + 20 n.
set -eu
cd "$(dirname "$0")/fixtures"
rm -f -- *
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ff() { ffmpeg -v error -nostdin -y -bitexact "$@"; }
sine() { # RATE SECONDS CHANNEL-EXPRESSION OUTPUT-OPTIONS...: one sine per channel
    rate=$1; seconds=$2; shift 2
    ff -f lavfi -i "aevalsrc=$1:s=$rate:d=$seconds" -fflags +bitexact "${@:2}"
}
one="0.25*sin(440*2*PI*t)"
two="$one|0.125*sin(440*2*PI*t)"
six="$two|0.1*sin(440*2*PI*t)|0|0.05*sin(440*2*PI*t)|0.05*sin(440*2*PI*t):c=5.1"
eight="$two|0.1*sin(440*2*PI*t)|0|0.05*sin(440*2*PI*t)|0.05*sin(440*2*PI*t)|0.05*sin(440*2*PI*t)|0.05*sin(440*2*PI*t):c=7.1"

# Sounds
sine  8000 0.30 "$one"   -c:a pcm_u8 u8.wav
sine 16000 0.30 "$one"   -c:a pcm_s16le s16.wav
sine 22050 0.20 "$one"   -c:a pcm_s24le s24.wav
sine 11025 0.20 "$one"   -c:a pcm_s32le s32.wav
sine 16000 0.25 "$one"   -c:a pcm_f32le f32.wav
sine  8000 0.25 "$one"   -c:a pcm_f64le f64.wav
sine  8000 0.30 "$two"   -c:a pcm_mulaw mulaw.wav
sine  8000 0.30 "$one"   -c:a pcm_alaw alaw.au
sine 16000 0.30 "$one"   -c:a adpcm_ima_wav adpcm.wav
sine 16000 0.30 "$one"   -c:a pcm_s16be be.aiff
sine  8000 0.30 "$one"   -c:a pcm_s16le -f caf core.caf
sine 22050 0.20 "$two"   -c:a flac -sample_fmt s16 stereo.flac
sine 96000 0.10 "$two"   -c:a wavpack -sample_fmt s16p 96k.wv
sine  8000 0.10 "$one"   -c:a pcm_s16le shortest.wav
sine 22050 0.30 "$two"   -c:a alac -sample_fmt s16p alac.m4a
sine 44100 0.40 "$two"   -c:a aac -b:a 64k aac.m4a
sine 44100 0.40 "$one"   -c:a aac -b:a 48k adts.aac
sine 44100 0.40 "$two"   -c:a libvorbis -q:a 1 vorbis.ogg
sine 48000 0.40 "$one"   -c:a libopus -b:a 32k opus.opus
sine 48000 0.40 "$two"   -c:a libopus -b:a 48k opus.webm
sine 48000 0.40 "$six"   -c:a ac3 -b:a 192k 5.1.ac3
sine 48000 0.30 "$eight" -c:a libopus -b:a 96k 7.1.mka
sine  8000 0.40 "$one"   -c:a libspeex speech.spx
sine 44100 0.40 "$one"   -c:a wmav2 -b:a 48k speech.wma
sine 16000 0.40 "$one"   -c:a g722 speech.g722
sine 44100 0.40 "$one"   -c:a mp2 -b:a 64k layer2.mp2

# Pictures of the four quarters, as frames
for n in 0 1 2 3 4 5; do
    convert -size 32x24 xc:'rgb(200,40,40)' xc:'rgb(40,200,40)' +append "$work/top.png"
    grey=$((40 + 20 * n))
    convert -size 32x24 xc:'rgb(40,40,200)' xc:"rgb($grey,$grey,$grey)" +append "$work/bottom.png"
    convert "$work/top.png" "$work/bottom.png" -append -depth 8 "PNG24:$work/frame$n.png"
    # The same, but clear where the grey is.
    convert "$work/frame$n.png" -alpha set -region 32x24+32+24 -alpha transparent +region "PNG32:$work/clear$n.png"
done
sine 44100 0.40 "$one" -i "$work/frame0.png" -map 0 -map 1 -c:a libmp3lame -b:a 48k -c:v png -disposition:v attached_pic cover.mp3

# Videos
frames() { rate=$1; shift; ff -framerate "$rate" -i "$work/frame%d.png" "$@"; }
matrix="scale=out_color_matrix=bt601:out_range=tv"
h264="-c:v libx264 -preset slow -crf 12 -x264-params no-info=1 -pix_fmt yuv420p"
frames 25 -vf "$matrix" $h264 25.mp4
frames 30000/1001 -vf "$matrix" -c:v mpeg4 -q:v 2 2997.avi
frames 60 -vf "$matrix" $h264 60.mkv
frames 12 -vf "$matrix" -c:v mpeg2video -q:v 1 -r 24 24.ts
frames 25 -vf "$matrix,setpts='(N+if(gte(N,3),8,0)+if(gte(N,5),10,0))*0.04/TB'" -vsync vfr $h264 variable.mkv
for turn in 90 180 270; do ff -i 25.mp4 -c copy -metadata:s:v:0 rotate=$turn turned$turn.mp4; done
frames 25 -vf "scale=35:27:flags=neighbor:out_color_matrix=bt601:out_range=tv" -c:v libvpx-vp9 -crf 10 -b:v 0 odd.webm
frames 25 -vf "scale=32:48:flags=neighbor:out_color_matrix=bt601:out_range=tv,setsar=2" $h264 anamorphic.mp4
frames 25 -vf "$matrix" -c:v libx265 -x265-params log-level=error:crf=8:info=0 -pix_fmt yuv420p10le -tag:v hvc1 hevc10.mp4
frames 25 -vf "scale=out_color_matrix=bt709:out_range=tv" $h264 -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv bt709.mp4
frames 25 -vf "scale=out_color_matrix=bt709:out_range=pc" $h264 -colorspace bt709 -color_range pc full.mp4
frames 25 -frames:v 1 -vf "$matrix" $h264 one.mp4
frames 25 -vf "$matrix" $h264 -f h264 bare.264
frames 25 -vf "scale=out_color_matrix=bt601:out_range=pc" -c:v mjpeg -q:v 2 -pix_fmt yuvj420p motion.mov
frames 25 -vf "$matrix" -c:v libtheora -q:v 9 theora.ogv
frames 25 -vf "$matrix" -c:v wmv2 -q:v 2 wmv.wmv
frames 25 -frames:v 3 -vf "$matrix" -c:v libaom-av1 -crf 10 -cpu-used 8 av1.mp4
frames 25 -frames:v 3 -vf "scale=out_color_matrix=bt709:out_range=tv" -c:v prores_ks -profile:v 3 -pix_fmt yuv422p10le -colorspace bt709 prores.mov
frames 5 -vf "split[a][b];[a]palettegen[p];[b][p]paletteuse" moving.gif
ff -framerate 25 -i "$work/clear%d.png" -c:v png clear.mov
ff -framerate 25 -i "$work/clear%d.png" -vf "$matrix" -c:v libvpx-vp9 -pix_fmt yuva420p -crf 10 -b:v 0 clear.webm
frames 25 -f lavfi -i "aevalsrc=$one:s=44100:d=0.24" -vf "$matrix" $h264 -c:a aac -b:a 48k talking.mp4

# Pictures that Pillow did not write
convert "$work/frame3.png" -define png:bit-depth=16 -depth 16 "PNG48:rgb16.png"
convert -size 16x64 gradient:black-white -rotate 90 -depth 16 -colorspace Gray -define png:bit-depth=16 "PNG:grey16.png"
convert -size 16x64 gradient:black-white -rotate 90 -depth 16 -colorspace Gray grey16.tiff
convert "$work/frame3.png" -colorspace CMYK -quality 95 cmyk.jpg
convert "$work/frame3.png" -colorspace CMYK -compress LZW cmyk.tiff
convert "$work/frame3.png" -colorspace Lab -compress LZW lab.tiff
convert "$work/frame3.png" -quality 98 -sampling-factor 4:4:4 -rotate 270 turned.jpg
exiftool -q -overwrite_original -n -Orientation=6 turned.jpg
convert "$work/frame3.png" +dither -colors 16 "PNG8:palette.png"
convert "$work/clear3.png" -strip clear.png
frames 5 -c:v libwebp_anim -lossless 1 moving.webp
ff -i "$work/frame3.png" picture.tga
convert "$work/frame3.png" bitmap.bmp
ls -l | awk '{ if ($5 > 20480) print "too large:", $9, $5; sum += $5 } END { print NR, "files,", sum, "bytes" }'
